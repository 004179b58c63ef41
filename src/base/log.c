#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/counters.h"
#include "base/log_p.h"
#include "base/mailbox.h"

#define LOG_QUEUE    4096 /* lines */
#define LOG_PIECE    4096 /* bytes: what a pipe takes without blocking when poll says that it is writable */
#define LOG_STUCK_MS 2000 /* ms that an unread pipe may hold up log_stop */
#define LOG_POLL_MS  100  /* ms */

enum log_kind { LOG_KIND_LINE, LOG_KIND_STOP };

struct log_item {
	struct mailbox_item item;
	nsec_t time;
	enum log_level level;
	unsigned component_len; /* bytes; the component stands first in `bytes`, the text after it */
	unsigned text_len;      /* bytes */
	char bytes[];
};

static _Atomic int log_level = LOG_LEVEL_INFO;   /* atomic */
static _Atomic int log_format = LOG_FORMAT_TEXT; /* atomic */
static atomic_bool running;                      /* atomic: lines go to the logger thread */
static _Atomic unsigned posting;      /* atomic: threads between their look at `running` and their post */
static _Atomic uint64_t dropped;      /* atomic */
static struct mailbox queue;          /* the logger thread takes */
static pthread_t thread;              /* main */
static struct mailbox_item stop_item; /* main, then the logger */

/* Logger thread. */
static struct {
	char bytes[8 * LOG_LINE_MAX];
	struct buf out;
	uint64_t reported;    /* of dropped, by a line */
	unsigned stuck;       /* ms for which nobody has read while log_stop waited */
	atomic_bool stopping; /* atomic: main sets it */
} logger;

void log_configure(enum log_level level, enum log_format format)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
	atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}

static void log_drop(void)
{
	atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
}

static void log_line(const struct log_line *l, struct buf *b)
{
	log_line_format(l, (enum log_format)atomic_load_explicit(&log_format, memory_order_relaxed), b);
	count(CNT_LOG_LINES);
}

/* May wait for whoever reads standard error: only when there is no logger thread, or in it. */
static void log_write_direct(const struct log_line *l)
{
	char bytes[LOG_LINE_MAX];
	struct buf b;
	size_t at = 0;

	buf_init(&b, bytes, sizeof(bytes));
	log_line(l, &b);
	while (at < b.len) {
		ssize_t n = write(STDERR_FILENO, b.p + at, b.len - at);
		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN)
			poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, LOG_STUCK_MS);
		else if (errno != EINTR)
			return;
	}
}

/* Logger thread. Waits for the reader, but not for ever once log_stop waits for us. */
static bool logger_writable(void)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

	while (logger.stuck < LOG_STUCK_MS) {
		if (poll(&p, 1, LOG_POLL_MS) > 0)
			return true;
		if (atomic_load(&logger.stopping))
			logger.stuck += LOG_POLL_MS;
	}
	return false;
}

/* Logger thread. Whole lines, as long as they are not longer than a piece: nobody else's can get in between. */
static size_t logger_piece(const char *p, size_t n)
{
	const char *end;

	if (n <= LOG_PIECE)
		return n;
	end = memrchr(p, '\n', LOG_PIECE);
	return end ? (size_t)(end + 1 - p) : LOG_PIECE;
}

static void logger_flush(void)
{
	size_t at = 0;

	while (at < logger.out.len && logger_writable()) {
		const char *p = logger.out.p + at;
		ssize_t n = write(STDERR_FILENO, p, logger_piece(p, logger.out.len - at));
		if (n >= 0)
			at += (size_t)n;
		else if (errno != EINTR && errno != EAGAIN)
			break;
	}
	logger.out.len = 0;
}

static void logger_line(const struct log_line *l)
{
	if (logger.out.cap - logger.out.len < LOG_LINE_MAX)
		logger_flush();
	log_line(l, &logger.out);
}

static void logger_report_dropped(void)
{
	uint64_t total = log_dropped();
	char t[80];
	struct buf b;

	if (total == logger.reported)
		return;
	buf_init(&b, t, sizeof(t));
	buf_u64(&b, total - logger.reported);
	buf_lit(&b, " log lines were dropped: the queue was full");
	logger.reported = total;
	logger_line(&(struct log_line){clock_wall_ns(), LOG_LEVEL_WARNING, SLICE_LIT("log"), buf_view(&b)});
}

static void logger_item(struct log_item *it)
{
	struct slice component = {it->bytes, it->component_len};
	struct slice text = {it->bytes + it->component_len, it->text_len};

	logger_line(&(struct log_line){it->time, it->level, component, text});
	free(it);
}

static void *logger_main(void *arg)
{
	bool stop = false;

	(void)arg;
	for (;;) {
		struct mailbox_item *mi = mailbox_take(&queue);
		if (mi && mi->kind == LOG_KIND_STOP) {
			stop = true;
		} else if (mi) {
			logger_item(caa_container_of(mi, struct log_item, item));
		} else {
			logger_report_dropped();
			logger_flush();
			/* Nobody posts after the stop: an empty queue is then the end. */
			if (stop)
				return NULL;
			mailbox_wait(&queue, UINT64_MAX);
		}
	}
}

int log_start(void)
{
	sigset_t all, old;
	int err;

	if (atomic_load(&running))
		return -EALREADY;
	mailbox_init(&queue, LOG_QUEUE);
	buf_init(&logger.out, logger.bytes, sizeof(logger.bytes));
	atomic_store(&logger.stopping, false);
	logger.stuck = 0;
	/* Signals are main's; a SIGPIPE of ours stays pending, and the write says EPIPE. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&thread, NULL, logger_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		mailbox_deinit(&queue);
		return -err;
	}
	pthread_setname_np(thread, "log");
	atomic_store(&running, true);
	return 0;
}

void log_stop(void)
{
	if (!atomic_exchange(&running, false))
		return;
	/* Whoever saw `running` before is counted in `posting`, and its line is in the queue when it no longer is. */
	while (atomic_load(&posting))
		sched_yield();
	stop_item.kind = LOG_KIND_STOP;
	atomic_store(&logger.stopping, true);
	if (mailbox_post_always(&queue, &stop_item))
		mailbox_wake(&queue);
	pthread_join(thread, NULL);
	mailbox_deinit(&queue);
}

static void log_post(const struct log_line *l)
{
	struct log_item *it = malloc(sizeof(*it) + l->component.len + l->text.len);
	int rc;

	if (!it) {
		log_drop();
		return;
	}
	it->item.kind = LOG_KIND_LINE;
	it->time = l->time;
	it->level = l->level;
	it->component_len = (unsigned)l->component.len;
	it->text_len = (unsigned)l->text.len;
	memcpy(it->bytes, l->component.p, l->component.len);
	memcpy(it->bytes + l->component.len, l->text.p, l->text.len);
	rc = mailbox_post(&queue, &it->item, 100);
	if (rc < 0) {
		log_drop();
		free(it);
	} else if (rc) {
		mailbox_wake(&queue);
	}
}

void log_write(enum log_level level, const char *component, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX + 1];
	struct log_line l = {.level = level, .component = {component, strnlen(component, LOG_COMPONENT_MAX)}};
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	l.time = clock_wall_ns();
	l.text = slice_make(text, n > LOG_TEXT_MAX ? LOG_TEXT_MAX : (size_t)n);
	atomic_fetch_add(&posting, 1);
	if (atomic_load(&running)) {
		log_post(&l);
		atomic_fetch_sub(&posting, 1);
	} else {
		atomic_fetch_sub(&posting, 1);
		log_write_direct(&l);
	}
}
