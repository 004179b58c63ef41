/* The keeper: a thread that writes the store through to the disk every store.sync. A commit survives the process; this
 * is for what a loss of power takes. It alone waits for the disk. */
#ifndef CONTROL_KEEPER_H
#define CONTROL_KEEPER_H

#include "store/db.h"
#include "worker/worker.h"

struct keeper;

/* Main. interval: ms; 0: no thread, *out is NULL. 0 or -errno. */
int keeper_start(struct store *s, const struct worker_pool *workers, uint32_t interval, struct keeper **out);
void keeper_stop(struct keeper *k); /* writes through once more; NULL does nothing */

#endif
