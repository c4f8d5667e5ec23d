/* Reading mapped files: a page that is gone (the file was cut short, its disk failed) is an error of that read, not the end of the program.
 *
 *   sigjmp_buf back;
 *   if (sigsetjmp(back, 0)) { fault_end(); return ST_EIO; }
 *   fault_begin(&back);
 *   … reads …                       // nothing that must be undone: a SIGBUS goes back to sigsetjmp
 *   fault_end();
 *
 * Per thread. A SIGBUS outside ends the program as always. */
#ifndef TAUT_EVALUATOR_FAULT_H
#define TAUT_EVALUATOR_FAULT_H

#include <setjmp.h>

void fault_begin(sigjmp_buf *back);
void fault_end(void);

#endif
