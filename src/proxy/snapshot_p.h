/* The records of response contexts: snapshot.c writes them, recover.c reads them. */
#ifndef PROXY_SNAPSHOT_P_H
#define PROXY_SNAPSHOT_P_H

#include "proxy_p.h"
#include "txn/snapshot.h"

#define SNAPSHOT_FORMAT  1
#define SNAPSHOT_SETTLED (UINT64_C(1) << 63) /* in a number: behind all calls that are being set up */

enum {
	SNAP_PARALLEL = 1,
	SNAP_FAILOVER = 2,
	SNAP_OVERLOAD = 4,
	SNAP_FINAL = 8,
	SNAP_CANCELLED = 16,
	SNAP_BEST_LOCAL = 32,
	SNAP_REQUEST = 64,
	SNAP_SERVER = 128,
	SNAP_TARGETS = 256,
	SNAP_REASON = 512,
};

enum {
	SNAP_B_PROVISIONAL = 1,
	SNAP_B_CANCEL_WANTED = 2,
	SNAP_B_CANCEL_SENT = 4,
	SNAP_B_DONE = 8,
	SNAP_B_UNACKED = 16,
	SNAP_B_UDP_ONLY = 32,
	SNAP_B_UDP_NEXT = 64,
	SNAP_B_FLOW_FAILED = 128,
	SNAP_B_CLIENT = 256,
};

#endif
