/* What a message is, told from its first bytes: for counting what is not, or not yet, parsed. */
#ifndef TRANSPORT_KIND_P_H
#define TRANSPORT_KIND_P_H

#include "base/counters.h"
#include "base/slice.h"

/* The rows of C_MSG in counters.def, in their order. */
enum kind {
	KIND_INVITE,
	KIND_ACK,
	KIND_BYE,
	KIND_CANCEL,
	KIND_OPTIONS,
	KIND_REGISTER,
	KIND_OTHER,
	KIND_1XX,
	KIND_6XX = KIND_1XX + 5
};

/* Any thread. Never fails: what is not recognised is KIND_OTHER. */
enum kind kind_of(struct slice bytes);

/* Counts under the rows that begin with `invite_row` (CNT_IN_UDP_INVITE …). */
static inline void kind_count(enum counter_id invite_row, enum kind k)
{
	count((enum counter_id)(invite_row + (unsigned)k));
}

#endif
