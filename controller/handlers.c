/* The table of handlers, in the order of wire/methods.def. */
#include <math.h>

#include "controller/internal.h"

const wire_handler ctl_handlers[] = {
    ctl_h_server_info,
    ctl_h_job_submit,
    ctl_h_job_list,
    ctl_h_job_get,
    ctl_h_job_pause,
    ctl_h_job_resume,
    ctl_h_job_cancel,
    ctl_h_job_front,
    ctl_h_job_progress,
    ctl_h_job_watch,
    ctl_h_trial_list,
    ctl_h_trial_get,
    ctl_h_trial_predict,
    ctl_h_device_list,
    ctl_h_evaluator_register,
    ctl_h_evaluator_next,
    ctl_h_evaluator_progress,
    ctl_h_evaluator_report,
    ctl_h_blob_get,
    ctl_h_blob_put,
};

enum {
#define WIRE_METHOD(name, role) +1
    METHODS = 0
#include "wire/methods.def"
#undef WIRE_METHOD
};
_Static_assert(sizeof ctl_handlers / sizeof *ctl_handlers == METHODS, "one handler a method");

void ctl_bad_params(struct wire_call *call, const struct base_err *err)
{
    char text[1100];
    int code = err->st == ST_ENOTSUP ? WIRE_ENOTSUP : err->st == ST_ENOMEM ? WIRE_EINTERNAL : WIRE_EPARAMS;
    wire_call_error(call, code, "%s", base_err_text(err, text, sizeof text));
}

json_t *ctl_number(double v)
{
    if (!isfinite(v)) return json_null();
    return v == rint(v) && fabs(v) < 1e15 ? json_integer((json_int_t)v) : json_real(v);
}
