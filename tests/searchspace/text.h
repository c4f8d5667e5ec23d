/* JSON in C strings: quoted() turns ' into ". */
#ifndef TAUT_TESTS_SEARCHSPACE_TEXT_H
#define TAUT_TESTS_SEARCHSPACE_TEXT_H

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Four texts at a time. */
__attribute__((unused)) static const char *quoted(const char *s)
{
    static char text[4][8192];
    static int at;
    char *t = text[at = (at + 1) % 4];
    assert(strlen(s) < sizeof text[0]);
    strcpy(t, s);
    for (char *p = t; *p; p++)
        if (*p == '\'') *p = '"';
    return t;
}

/* A job around the objects given: data, space and more keys (each may be NULL). */
__attribute__((unused)) static const char *job_text(const char *data, const char *space, const char *objectives, const char *more)
{
    static char text[8192];
    snprintf(text, sizeof text, "{'data':%s,'space':%s,'objectives':%s%s%s}", data ? data : "{'train':'a.txt'}",
             space ? space : "'lm-small'", objectives ? objectives : "['valid_bpb','params']", more ? "," : "", more ? more : "");
    return quoted(text);
}

#endif
