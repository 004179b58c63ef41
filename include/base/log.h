/* Log lines to standard error, one an event, as text or JSON. Writing never waits: the line goes through a
 * bounded queue to the logger thread, and what does not fit is counted and reported by a later line.
 * Before log_start and after log_stop lines are written directly. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Main thread, at start and on reload. */
void log_configure(enum log_level level, enum log_format format);
int log_start(void); /* main thread; 0 or -errno */
void log_stop(void); /* main thread; writes what is queued */

bool log_enabled(enum log_level level); /* any thread */

/* Any thread. `component` is a layer or thread ("transport", "worker"). The text is one line without a
 * newline; bytes that are not printable are escaped, so that a peer's bytes cannot forge a line. At most 1,000
 * bytes are kept. */
void log_write(enum log_level level, const char *component, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(c, ...)   log_write(LOG_LEVEL_ERROR, c, __VA_ARGS__)
#define log_warning(c, ...) log_write(LOG_LEVEL_WARNING, c, __VA_ARGS__)
#define log_info(c, ...)    log_write(LOG_LEVEL_INFO, c, __VA_ARGS__)
#define log_debug(c, ...)                                           \
	do {                                                        \
		if (log_enabled(LOG_LEVEL_DEBUG))                   \
			log_write(LOG_LEVEL_DEBUG, c, __VA_ARGS__); \
	} while (0)

/* For lines that the network can cause: true at most `burst` times in any second, per limiter (any thread); what
 * was suppressed is added to *suppressed when the next line passes. */
struct log_limiter {
	_Atomic uint64_t window; /* atomic: second << 32 | lines in it */
	_Atomic uint64_t missed; /* atomic */
};
bool log_limit(struct log_limiter *l, unsigned burst, uint64_t *suppressed);
/* The end of the line that passed: " (7 such lines left out)", or nothing for 0. Gives `out`. */
#define LOG_LEFT_OUT_MAX 48 /* bytes */
const char *log_left_out(uint64_t suppressed, char out[static LOG_LEFT_OUT_MAX]);

/* Lines that did not fit into the queue since the start. */
uint64_t log_dropped(void);

#endif
