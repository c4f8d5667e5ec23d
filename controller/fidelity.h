/* Which trial goes up a rung: asynchronous successive halving (ASHA; Li et al. 2018, arXiv:1810.05934, algorithm 2) with many objectives.
 *
 *   long row = fidelity_next(job, archive, closed);      // -1: none; then propose something new, or wait
 *
 *   order      the results of a rung, by rank (constrained domination; Deb et al. 2002); in a rank what was promoted holds its place, the others follow by crowding
 *              distance, then by trial. (By crowding alone every newcomer would shuffle its front, and far more than one in eta go up.) Only results of the same rung are compared.
 *   due        of the first floor(n / eta) in that order (n: reports on the rung, whatever they said) those that were not promoted yet; the highest rung goes first.
 *   diversity  of the promotions out of a rung every FIDELITY_DIVERSE-th goes to another one: of the first 2 floor(n / eta) that were not promoted, the one farthest from
 *              what was. Distance: sum over objectives of the difference in position among the rung's results, divided by n; farthest: whose nearest promoted one is. So a rung
 *              whose order is wrong about a region (what learns late) still sends something on from there.
 *   the end    when nothing new can come (closed) and nothing is under way on a rung or below it, n / eta is rounded up, from the lowest rung on: the top rung is not left
 *              empty where anything may get there.
 *   the audit  what it drew goes up first, rung by rung. It is no promotion of halving's: its results above the rung that it was drawn on do not stand in the order there, and are
 *              counted neither in n nor among the promotions. Once a low rung is not relied on (audit.h), nothing goes up by it: the audit then draws what is new.
 *   repeats    (repeat.h) go up first, as far as the trial that each repeats is, and stand in no order.
 *   never      what breaks a constraint that more training does not change (paper costs, what is profiled), or lacks an objective.
 *
 *   shared     of shared weights rung 0 is inherited and rung 1 trained alone: no eta there. When nothing new can come and nothing is under way on rung 0, its front (rank 0, no
 *   weights    constraint broken) goes up, in that order.
 *
 * A function of (job, archive, closed) and nothing else: a search that was killed and started again promotes the same trials. */
#ifndef TAUT_CONTROLLER_FIDELITY_H
#define TAUT_CONTROLLER_FIDELITY_H

#include "db/archive.h"

#define FIDELITY_DIVERSE 4

/* Row of the next promotion, from the rung that it is on; -1: none is due (or memory is out). closed: no new trial can come. */
long fidelity_next(const struct job *job, const struct archive *a, bool closed);

/* Does the row break a constraint that more training does not change? */
bool fidelity_hopeless(const struct job *job, const struct archive *a, long row);

#endif
