/* for sigaction, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/edit_tty.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define MARK_PASTES "\033[?2004h"
#define LEAVE_PASTES "\033[?2004l"

/* Signals whose default action ends this process. */
static const int ends[] = { SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV };
enum { NENDS = sizeof(ends) / sizeof(ends[0]) };

static volatile sig_atomic_t active, resized, lost;
static int wake = -1;
static struct termios before; /* modes of the terminal before the editor */
static struct termios edited; /* modes of the terminal during editing */
static struct sigaction end_before[NENDS], resize_before;

/*
 * Write a constant string. A failure is ignored, because it cannot be reported.
 */
static void
send(const char *text)
{
	ssize_t sent = write(STDOUT_FILENO, text, strlen(text));

	(void)sent;
}

static void
notify(void)
{
	if (wake >= 0 && write(wake, "", 1) < 0)
		errno = 0; /* the pipe is full, so it wakes the loop, too */
}

static void
on_resize(int sig)
{
	int saved = errno;

	(void)sig;
	resized = 1;
	notify();
	errno = saved;
}

/*
 * The signal may interrupt fz_edit_tty_end(), for example when the terminal
 * hangs up. The second call then does nothing.
 */
static void
on_end(int sig)
{
	fz_edit_tty_end();
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
	for (int i = 0; i < NENDS; i++) {
		if (ends[i] == sig)
			sigaction(sig, &end_before[i], NULL);
	}
	raise(sig);
}

static void
catch_signal(int sig, void (*handler)(int), struct sigaction *old)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = SA_RESTART;
	sigaction(sig, NULL, old);
	if (old->sa_handler != SIG_IGN)
		sigaction(sig, &action, NULL);
}

void
fz_edit_tty_begin(int wake_fd)
{
	wake = wake_fd;
	resized = lost = 0;
	tcgetattr(STDIN_FILENO, &before);
	active = 1;
	for (int i = 0; i < NENDS; i++)
		catch_signal(ends[i], on_end, &end_before[i]);
	catch_signal(SIGWINCH, on_resize, &resize_before);
	send(MARK_PASTES);
}

void
fz_edit_tty_end(void)
{
	if (!active)
		return;
	active = 0;
	send(LEAVE_PASTES);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	for (int i = 0; i < NENDS; i++)
		sigaction(ends[i], &end_before[i], NULL);
	sigaction(SIGWINCH, &resize_before, NULL);
}

struct fz_edit_news
fz_edit_tty_take_news(void)
{
	struct fz_edit_news news = { .resized = resized, .lost = lost };

	resized = lost = 0;
	return news;
}

bool
fz_edit_tty_has_news(void)
{
	return resized || lost;
}

void
fz_edit_tty_suspend(void)
{
	if (!active)
		return;
	tcgetattr(STDIN_FILENO, &edited);
	send(LEAVE_PASTES);
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

void
fz_edit_tty_resume(void)
{
	if (!active)
		return;
	tcsetattr(STDIN_FILENO, TCSANOW, &edited);
	send(MARK_PASTES);
	resized = lost = 1;
	notify();
}
