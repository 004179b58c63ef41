/* What a message is, told from its first bytes: for counting what is not, or not yet, parsed. */
#ifndef TRANSPORT_KIND_P_H
#define TRANSPORT_KIND_P_H

#include "base/counters.h"
#include "base/flow.h"

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
	KIND_6XX = KIND_1XX + 5,
	KIND_COUNT
};

_Static_assert(CNT_OUT_UDP_INVITE == CNT_IN_UDP_INVITE + KIND_COUNT, "C_MSG has a row for each kind");
_Static_assert(CNT_IN_TCP_INVITE == CNT_IN_UDP_INVITE + 2 * KIND_COUNT, "in, then out, for each transport");
_Static_assert(CNT_OUT_TLS_INVITE == CNT_IN_UDP_INVITE + (2 * FLOW_TLS + 1) * KIND_COUNT, "likewise");

/* Any thread. Never fails: what is not recognised is KIND_OTHER. */
enum kind kind_of(struct slice bytes);

static inline void kind_count_in(enum flow_proto p, enum kind k)
{
	count((enum counter_id)(CNT_IN_UDP_INVITE + 2 * p * KIND_COUNT + k));
}

static inline void kind_count_out(enum flow_proto p, enum kind k)
{
	count((enum counter_id)(CNT_OUT_UDP_INVITE + 2 * p * KIND_COUNT + k));
}

#endif
