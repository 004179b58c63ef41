/* A proxy that is ended and begun again on the same store. */
#ifndef TEST_SCENARIO_RECOVER_H
#define TEST_SCENARIO_RECOVER_H

#include "base/counters.h"
#include "harness.h"

static struct harness *h;

/* `on`: its listeners, as h_start_calls wants them. */
static inline void begin_on(const char *conf, const char *on)
{
	counters_reset_all();
	h = h_start_calls(conf, on, 0);
}

static inline void begin(const char *conf)
{
	begin_on(conf, NULL);
}

/* When all timers have run nothing is left, not in the store either. */
static inline void finish(void)
{
	h_expect_silence(h);
	h_run(h, 260000);
	h_expect_silence(h);
	h_assert_idle(h);
	assert_int_equal(h_records(h, STORE_CALLS), 0);
	assert_int_equal(counters_sum(CNT_INFLIGHT), 0);
	h_stop(h);
}

static inline const struct sip_msg *ringing(const char *to)
{
	const struct sip_msg *m = H_CALL(h, to);
	H_REP(h, m, 180);
	h_expect_response(h, H_CALLER, 180);
	return m;
}

static inline void assert_cancel_of(const struct sip_msg *cancel, const struct sip_msg *m)
{
	assert_string_equal(h_branch(h, cancel), h_branch(h, m));
	assert_string_equal(h_ruri(h, cancel), h_ruri(h, m));
	assert_string_equal(h_hdr(h, cancel, "Via", 0), h_hdr(h, m, "Via", 0));
	assert_int_equal(h_hdr_count(cancel, "Via"), 1);
	h_assert_hdr(h, cancel, "CSeq", "1 CANCEL");
}

/* The rest of a call that `m` rings for: the 200 and its ACK. */
static inline void answered(const struct sip_msg *m)
{
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200);
	H_REP(h, m, 200);
	h_expect_response(h, H_CALLER, 200); /* copies of a 2xx pass (RFC 6026) */
	h_expect_silence(h);
}

/* The rest of a call that was refused with `status`: ACK to the callee, the final to the caller, its ACK absorbed. */
static inline void refused(const struct sip_msg *m, const char *at, unsigned status)
{
	H_REP(h, m, status);
	assert_string_equal(h_branch(h, h_expect_request(h, at, "ACK")), h_branch(h, m));
	const struct sip_msg *final = h_expect_response(h, H_CALLER, status);
	h_ack(h, &(struct h_req){0}, final);
	h_expect_silence(h);
}

static inline void two_ringing(const struct sip_msg *m[3])
{
	begin(H_CONF_THREE("parallel"));
	m[0] = H_CALL(h, H_A);
	m[1] = h_expect_request(h, H_B, "INVITE");
	m[2] = h_expect_request(h, H_C, "INVITE");
	H_REP(h, m[2], 404);
	h_expect_request(h, H_C, "ACK");
	for (int i = 0; i < 2; i++) {
		H_REP(h, m[i], 180);
		h_expect_response(h, H_CALLER, 180);
	}
	h_expect_silence(h);
}

#endif
