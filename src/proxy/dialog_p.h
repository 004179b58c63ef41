/* What is kept of a confirmed call, and what it permits. dialog.c keeps it. */
#ifndef PROXY_DIALOG_P_H
#define PROXY_DIALOG_P_H

#include "proxy_p.h"

#define DIALOG_RECORD_MAX 6144 /* bytes */
#define DIALOG_ROUTES_MAX 1024 /* bytes of a side's routes; what does not fit is not permitted */

enum { DIALOG_CALLER, DIALOG_CALLED, DIALOG_SIDES };

struct dialog_side {
	struct slice tag, uri;
	struct slice target; /* of its Contact; none: it has told none */
	struct slice routes; /* URIs of the proxies between us and it, each ended by a newline */
};

struct dialog_record {
	uint64_t since, until; /* ms, wall clock */
	struct slice call_id;
	struct dialog_side side[DIALOG_SIDES];
};

/* *r points into bytes. 0; -EPROTONOSUPPORT: of another format; -EBADMSG. */
int dialog_record_read(struct slice bytes, struct dialog_record *r);
void dialog_record_write(const struct dialog_record *r, struct buf *b);
/* What a 2xx to `request` (NULL: it is gone) tells. *r points into both and into `routes`, which has room for both
 * sides. */
void dialog_record_make(const struct proxy *p, const struct sip_msg *ok, const struct sip_msg *request,
			struct buf *routes, struct dialog_record *r);
/* r tells more of a dialog of which `known` is kept: the caller stays the caller, and what r does not tell stays,
 * too. */
void dialog_record_join(struct dialog_record *r, const struct dialog_record *known, struct buf *routes);
/* Whether m, a request inside the dialog, leads to where its other side is: `uri` is that side's target, and `next`
 * (none: there is none) a proxy on the way. */
bool dialog_record_permits(const struct dialog_record *r, const struct sip_msg *m, const struct sip_uri *uri,
			   struct slice next);

#endif
