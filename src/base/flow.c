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

const char *flow_proto_label(enum flow_proto p)
{
	static const char *const label[FLOW_PROTO_COUNT] = {"udp", "tcp", "tls"};

	return p < FLOW_PROTO_COUNT ? label[p] : "";
}

bool flow_proto_parse(struct slice name, enum flow_proto *out)
{
	for (enum flow_proto p = FLOW_UDP; p < FLOW_PROTO_COUNT; p++) {
		if (!slice_ieq(name, flow_proto_name(p)))
			continue;
		*out = p;
		return true;
	}
	return false;
}

uint16_t flow_proto_port(enum flow_proto p)
{
	return p == FLOW_TLS ? 5061 : 5060;
}
