#include <stdlib.h>

#include "sip/message.h"

size_t sip_msg_clone_size(const struct sip_msg *m)
{
	return sizeof(*m) + m->hdr_count * sizeof(*m->hdrs) + m->len;
}

struct sip_msg *sip_msg_clone_into(const struct sip_msg *m, void *mem)
{
	struct sip_msg *c = mem;
	char *bytes;

	memcpy(c, m, sizeof(*c));
	c->hdrs = (struct sip_hdr *)(void *)(c + 1);
	memcpy(c->hdrs, m->hdrs, m->hdr_count * sizeof(*m->hdrs));
	bytes = (char *)(c->hdrs + m->hdr_count);
	memcpy(bytes, m->buf, m->len);
	c->buf = bytes;
	return c;
}

struct sip_msg *sip_msg_clone(const struct sip_msg *m)
{
	void *mem = malloc(sip_msg_clone_size(m));

	return mem ? sip_msg_clone_into(m, mem) : NULL;
}
