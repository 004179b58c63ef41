#include "transport/kind_p.h"

_Static_assert(CNT_IN_UDP_ACK - CNT_IN_UDP_INVITE == KIND_ACK,
	       "the rows of C_MSG and enum kind have one order");
_Static_assert(CNT_IN_UDP_OTHER - CNT_IN_UDP_INVITE == KIND_OTHER,
	       "the rows of C_MSG and enum kind have one order");
_Static_assert(CNT_IN_UDP_6XX - CNT_IN_UDP_INVITE == KIND_6XX,
	       "the rows of C_MSG and enum kind have one order");
_Static_assert(CNT_OUT_UDP_6XX - CNT_OUT_UDP_INVITE == KIND_6XX,
	       "the rows of C_MSG and enum kind have one order");

#define kind_is(b, word) ((b).len >= sizeof(word) - 1 && memcmp((b).p, (word), sizeof(word) - 1) == 0)

enum kind kind_of(struct slice b)
{
	if (b.len < 9)
		return KIND_OTHER; /* no whole start line */
	switch (b.p[0]) {
	case 'S':
		if (kind_is(b, "SIP/2.0 ") && b.p[8] >= '1' && b.p[8] <= '6')
			return (enum kind)(KIND_1XX + (b.p[8] - '1'));
		break;
	case 'I':
		if (kind_is(b, "INVITE "))
			return KIND_INVITE;
		break;
	case 'A':
		if (kind_is(b, "ACK "))
			return KIND_ACK;
		break;
	case 'B':
		if (kind_is(b, "BYE "))
			return KIND_BYE;
		break;
	case 'C':
		if (kind_is(b, "CANCEL "))
			return KIND_CANCEL;
		break;
	case 'O':
		if (kind_is(b, "OPTIONS "))
			return KIND_OPTIONS;
		break;
	case 'R':
		if (kind_is(b, "REGISTER "))
			return KIND_REGISTER;
		break;
	default: break;
	}
	return KIND_OTHER;
}
