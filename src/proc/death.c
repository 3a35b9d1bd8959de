/* sigabbrev_np is a GNU extension. */
#define _GNU_SOURCE
#include "proc/death.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SHOW_PEAK_FROM (UINT64_C(64) << 20)

static void
describe_signal(const struct fz_death *death, char *text, size_t len)
{
	const char *name = sigabbrev_np(death->signal);
	char peak[64] = "";
	char known[32] = "";
	char cause[64] = "";

	if (name != NULL)
		snprintf(known, sizeof(known), " (SIG%s)", name);
	if (death->peak_rss >= UINT64_C(1000000000))
		snprintf(peak, sizeof(peak), "; peak memory %.1f GB",
		    (double)death->peak_rss / 1e9);
	else if (death->peak_rss >= SHOW_PEAK_FROM)
		snprintf(peak, sizeof(peak), "; peak memory %" PRIu64 " MB",
		    death->peak_rss / 1000000);
	if (death->cpu_limit != 0)
		snprintf(cause, sizeof(cause),
		    ", %sat its CPU time limit of %" PRIu64 " s",
		    death->signal == SIGKILL ? "perhaps " : "",
		    death->cpu_limit);
	else if (death->signal == SIGXCPU)
		snprintf(cause, sizeof(cause), ", at its CPU time limit");
	else if (death->signal == SIGKILL)
		snprintf(cause, sizeof(cause), ", perhaps out of memory");
	snprintf(text, len, "killed by signal %d%s%s%s", death->signal, known,
	    cause, peak);
}

const char *
fz_death_text(const struct fz_death *death, char *text, size_t len)
{
	if (death->signal != 0)
		describe_signal(death, text, len);
	else if (death->exitcode >= 0)
		snprintf(text, len, "exited with code %d", death->exitcode);
	else
		snprintf(text, len,
		    "ended with an unknown exit status, because other "
		    "code of this program has waited for the process");
	return text;
}
