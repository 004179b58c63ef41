/* A stream gives the same frames whether its bytes come at once or one by one. */
#include <stdint.h>
#include <stdlib.h>

#include "sip/frame.h"
#include "sip/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

#define FRAMES_MAX 512
#define LARGEST    600

struct seen {
	enum sip_frame_kind kind;
	size_t off, len;
};

static bool ends(enum sip_frame_kind k)
{
	return k == SIP_FRAME_BAD_LENGTH || k == SIP_FRAME_TOO_LARGE || k == SIP_FRAME_GARBAGE;
}

static unsigned feed(const char *p, size_t size, size_t step, struct seen *out)
{
	struct sip_frame f = {0};
	size_t start = 0, have = step < size ? step : size;
	unsigned n = 0;

	while (n < FRAMES_MAX) {
		size_t len = have - start;
		char *exact = malloc(len ? len : 1); /* so that ASan sees a read beyond */
		enum sip_frame_kind k;

		NEED(exact);
		memcpy(exact, p + start, len);
		k = sip_frame_next(exact, len, LARGEST, &f);
		free(exact);
		NEED(f.skip <= f.used && f.used <= len && f.scan <= len);
		if (k == SIP_FRAME_INCOMPLETE) {
			if (have == size)
				break;
			have = step < size - have ? have + step : size;
			continue;
		}
		out[n++] = (struct seen){k, start + f.skip, f.used - f.skip};
		if (ends(k))
			break;
		NEED(f.used > 0 && f.scan == 0);
		start += f.used;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen at_once[FRAMES_MAX], singly[FRAMES_MAX];
	static struct sip_msg_room room;
	unsigned n, k;

	if (size > 2000)
		return 0;
	n = feed((const char *)data, size, size ? size : 1, at_once);
	k = feed((const char *)data, size, 1, singly);
	NEED(n == k);
	for (unsigned i = 0; i < n; i++) {
		NEED(at_once[i].kind == singly[i].kind && at_once[i].off == singly[i].off &&
		     at_once[i].len == singly[i].len);
		if (at_once[i].kind != SIP_FRAME_MESSAGE)
			continue;
		/* the parser finds the message to end where the framing found it to end */
		if (sip_msg_parse(&room, (const char *)data + at_once[i].off, at_once[i].len, true) == 0 &&
		    !room.msg.error)
			NEED(room.msg.len == at_once[i].len);
	}
	return 0;
}
