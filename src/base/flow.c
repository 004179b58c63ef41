#include "base/flow.h"

struct slice flow_proto_name(enum flow_proto p)
{
	switch (p) {
	case FLOW_UDP: return SLICE_LIT("UDP");
	case FLOW_TCP: return SLICE_LIT("TCP");
	case FLOW_TLS: return SLICE_LIT("TLS");
	case FLOW_PROTO_COUNT: break;
	}
	return SLICE_NONE;
}
