/* OPTIONS over a connection, and what the layer above got. */
#ifndef TEST_STREAM_OPTIONS_H
#define TEST_STREAM_OPTIONS_H

#include "test_stream.h"

static inline struct packet *take(struct stream_fixture *f, unsigned i)
{
	upper_await(&f->up, &f->up.flushed, i + 1);
	return f->up.taken[i];
}

static inline const char *options(char buf[static 1000], const char *call_id)
{
	return test_message(buf, 1000, "OPTIONS sip:b@example.com SIP/2.0", call_id, "", "1 OPTIONS");
}

static inline void say_options(int fd, const char *call_id)
{
	char text[1000];
	peer_say(fd, options(text, call_id));
}

#endif
