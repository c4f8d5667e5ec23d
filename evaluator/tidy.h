/* What a search that has ended leaves in the work folder and nothing goes on from: the trunks of its trials (jobN-trialM.stable.safetensors, weights and optimiser: three times the
 * trial's weights), which promotions would have gone on from. A search that is extended trains what it promotes later from its start, to the same bits.
 *
 *   tidy_trunks("/srv/taut/work", "/srv/taut/tautd.sock");
 *
 * Asks the tautd on that socket which searches have ended, on a connection of its own, and only where there are trunks; where it does not answer all stay. Searches are known by
 * their numbers, as in the files' names. */
#ifndef TAUT_EVALUATOR_TIDY_H
#define TAUT_EVALUATOR_TIDY_H

void tidy_trunks(const char *work, const char *socket);

#endif
