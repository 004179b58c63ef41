/* What an acceptor's epoll points to: the first member of each thing that is watched. */
#ifndef TRANSPORT_SOURCE_P_H
#define TRANSPORT_SOURCE_P_H

#include <stdint.h>

enum source_kind { SOURCE_EVENT, SOURCE_UDP, SOURCE_LISTEN, SOURCE_CONN };

struct source {
	uint8_t kind; /* const: enum source_kind */
};

#endif
