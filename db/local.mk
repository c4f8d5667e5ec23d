# db
noinst_LIBRARIES += libdb.a
libdb_a_SOURCES = db/archive.h db/archive_impl.h db/db.h db/internal.h \
	db/archive.c db/archive_front.c db/archive_pooled.c db/archive_load.c db/curve.c db/event.c db/fold.c db/fold_again.c db/fold_impl.h db/fold_supernet.c db/read.c \
	db/schema.c db/slots.c db/store.c db/text.c db/verify.c
# The extension for SQLite clients. Built by a rule of its own, since a static library's objects are not position-independent; it takes from
# base/ what it needs, compiled again.
extensiondir = $(pkglibdir)
extension_DATA = taut_pareto.so
CLEANFILES += taut_pareto.so
taut_pareto_sources = db/extension.c base/hypervolume.c base/hypervolume_progress.c base/pareto.c base/pareto_rank.c \
	base/pareto_sort.c
EXTRA_DIST += db/extension.c
taut_pareto.so: $(taut_pareto_sources) base/pareto.h base/pareto_impl.h
	$(AM_V_CCLD)set -e; sources=; for f in $(taut_pareto_sources); do sources="$$sources $(srcdir)/$$f"; done; \
	$(CC) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -shared $(AM_LDFLAGS) $(LDFLAGS) \
		-o $@ $$sources -lm
