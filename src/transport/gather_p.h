/* Whether it pays to pause so that a batch gathers: under load a thread's wake-up costs more than the messages'
 * work, in quiet times a pause only costs time. Decided from the recent rate of arrivals. */
#ifndef TRANSPORT_GATHER_P_H
#define TRANSPORT_GATHER_P_H

#include <stdbool.h>

#include "base/clock.h"

#define GATHER_SCALE   1024      /* fixed point of `messages` */
#define GATHER_WEIGHT  8         /* a batch counts for 1/8 of the average */
#define GATHER_GAP_MAX 100000000 /* ns: a longer silence counts as this */
/* Messages that a pause must be expected to bring. A timer's sleep costs the CPU time of about three to six messages
 * (measured: 18 µs in a virtual machine), and batches also form while the one before is worked on. */
#define GATHER_WORTH 8

struct gather {
	uint64_t messages; /* average per batch * GATHER_SCALE * GATHER_WEIGHT */
	uint64_t ns;       /* average time per batch * GATHER_WEIGHT */
	nsec_t last;       /* when the last batch was noted */
};

/* `n` messages have come at `now`. */
void gather_note(struct gather *g, nsec_t now, unsigned n);
/* True if a pause of `pause` ns is likely to bring GATHER_WORTH messages or more. */
bool gather_pays(const struct gather *g, nsec_t pause);

#endif
