#include "transport/packet_p.h"

static _Thread_local struct pool *packet_pool;

void packet_use_pool(struct pool *p)
{
	packet_pool = p;
}

struct packet *packet_create(const struct sip_msg *m, const struct flow *f, nsec_t received)
{
	size_t head = (sizeof(struct packet) + 15) & ~(size_t)15;
	struct packet *p = pool_get(packet_pool, head + sip_msg_clone_size(m));
	if (!p)
		return NULL;
	*p = (struct packet){.flow = *f, .received = received};
	p->msg = sip_msg_clone_into(m, (char *)p + head);
	return p;
}

void packet_destroy(struct packet *p)
{
	if (!p)
		return;
	inflight_release(&p->inflight);
	pool_put(p);
}
