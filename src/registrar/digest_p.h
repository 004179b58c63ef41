/* The tables behind digest.c. Every function here may be called by any thread: a slot is one atomic word. */
#ifndef REGISTRAR_DIGEST_P_H
#define REGISTRAR_DIGEST_P_H

#include <stdatomic.h>

#include "registrar/digest.h"

#define TABLE_WAYS 4 /* slots of a set */

/* Which counts of which nonces were used. */
#define REPLAY_SETS \
	65536 /* 2 MB; as many nonces as a quarter of a million phones use up in DIGEST_NONCE_LIFE */
struct replay {
	_Atomic uint64_t *slot; /* atomic: [REPLAY_SETS * TABLE_WAYS] */
	/* atomic: [REPLAY_SETS], ms: a nonce given until then that has no slot may have lost it */
	_Atomic uint64_t *floor;
};
int replay_init(struct replay *r); /* 0, -ENOMEM */
void replay_deinit(struct replay *r);
/* Uses up `nc` and all below it. False: it was used already, or that is not known any more: then a new nonce is good.
 * `given`, `now`: ms, when the nonce was made, and now. */
bool replay_use(struct replay *r, struct slice nonce, uint64_t given, uint32_t nc, uint64_t now);

/* Who failed lately: an origin and user together, and an origin alone after many. An origin stands for the address that
 * a nonce was given to (digest.c). */
#define FAILURES_SETS 8192
struct failures {
	_Atomic uint64_t *slot; /* atomic: [FAILURES_SETS * TABLE_WAYS] */
};
int failures_init(struct failures *f); /* 0, -ENOMEM */
void failures_deinit(struct failures *f);
/* ms that are still to be waited before the next attempt counts; 0: none. */
uint32_t failures_due(struct failures *f, uint64_t origin, struct slice user, uint64_t now);
/* Another failure; returns the ms until the next attempt counts. */
uint32_t failures_note(struct failures *f, uint64_t origin, struct slice user, uint64_t now);
/* The user has succeeded: its failures are forgotten, and for a day those of others at its origin do not delay it. */
void failures_forget(struct failures *f, uint64_t origin, struct slice user, uint64_t now);

struct digest {
	unsigned char key[32]; /* const: another in each run */
	struct replay replay;
	struct failures failures;
};

#endif
