/* What a search that has ended leaves in the work folder and nothing goes on from: the trunks of its trials (jobN-trialM.stable.safetensors, weights and optimiser: three times the
 * trial's weights), which promotions would have gone on from; what a training that has failed, or ended elsewhere, began with (jobN-trialM.inherited.safetensors); a supernet trained
 * here because the reported one could not be taken (jobN-supernet.own.safetensors). A search that is extended makes what it needs of them again, to the same bits.
 *
 *   tidy_begin("/srv/taut/work", "/srv/taut/tautd.sock");
 *   tidy_trunks("/srv/taut/work", "/srv/taut/tautd.sock");
 *
 * Files carry their search's number, and numbers are those of one store. So a work folder belongs to one tautd: its file "store" holds the path of that one's store (server.info), a
 * line, from the first time that it is used, for as long as that store is there. Where it is another's nothing is removed. */
#ifndef TAUT_EVALUATOR_TIDY_H
#define TAUT_EVALUATOR_TIDY_H

/* Makes the folder that tautd's, or says in one line of the log whose it is. */
void tidy_begin(const char *work, const char *socket);
/* Asks the tautd on that socket which searches have ended, on a connection of its own, and only where there is something to remove; where it does not answer all stays. */
void tidy_trunks(const char *work, const char *socket);

#endif
