#include "ctl_p.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One line without its end. False: none, or too long. */
static bool line_read(char out[static CTL_PASSWORD_MAX + 1])
{
	char line[CTL_PASSWORD_MAX + 2];
	bool ok = fgets(line, sizeof(line), stdin) != NULL;
	size_t n = ok ? strcspn(line, "\r\n") : 0;

	ok = ok && n && n <= CTL_PASSWORD_MAX;
	if (ok) {
		memcpy(out, line, n);
		out[n] = 0;
	}
	explicit_bzero(line, sizeof(line));
	return ok;
}

static bool ask(const char *prompt, char out[static CTL_PASSWORD_MAX + 1])
{
	struct termios before, quiet;
	bool ok;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return false;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	fputs(prompt, stderr);
	ok = line_read(out);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return ok;
}

int password_read(char out[static CTL_PASSWORD_MAX + 1])
{
	char again[CTL_PASSWORD_MAX + 1];
	bool ok, same = true;

	if (!isatty(STDIN_FILENO)) {
		ok = line_read(out);
	} else {
		ok = ask("Password: ", out) && ask("Again: ", again);
		same = ok && strcmp(out, again) == 0;
		explicit_bzero(again, sizeof(again));
	}
	if (!ok)
		fputs("holdfastctl: a password of 1 to 128 bytes is needed, from the prompt or on standard "
		      "input\n",
		      stderr);
	else if (!same)
		fputs("holdfastctl: the two were not the same\n", stderr);
	return ok && same ? CTL_OK : CTL_FAILED;
}
