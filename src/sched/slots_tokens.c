#include "sched/slots.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "os/fd.h"
#include "os/jobserver.h"
#include "sched/slots_state.h"
#include "wire/account.h"

#define TOKEN '+'

/*
 * The value of an account whose tokens were written back. Descendants of its
 * process may still run: they must not acquire tokens any more, and must not
 * write their tokens back a second time.
 */
#define ACCOUNT_CLOSED (INT32_MIN / 2)

enum { HELD_MAX = 1 << 24 }; /* more tokens than fit into a pipe */

static bool
is_closed(int32_t held)
{
	return held < ACCOUNT_CLOSED / 2;
}

static bool
may_take(const struct fz_lineage *at)
{
	for (; at != NULL; at = at->above) {
		if (is_closed(atomic_load(&at->account->held)))
			return false;
	}
	return true;
}

/*
 * Count a token in the accounts of this process and its ancestors, in this
 * order, as slots.h describes. False if one of them is closed.
 */
static bool
count(const struct fz_lineage *at)
{
	bool good = true;

	for (; at != NULL; at = at->above)
		good &= !is_closed(atomic_fetch_add(&at->account->held, 1));
	return good;
}

static bool
uncount(const struct fz_lineage *at, int32_t n)
{
	bool good = true;

	if (at == NULL)
		return true;
	good = uncount(at->above, n);
	return !is_closed(atomic_fetch_sub(&at->account->held, n)) && good;
}

/*
 * Close an account, and the second account that programs below its process use.
 * Returns the sum of both. The sum is limited, because a process may have
 * overwritten its account.
 */
static int32_t
close_account(struct fz_account *account)
{
	int32_t n = atomic_exchange(&account->held, ACCOUNT_CLOSED);
	struct fz_account *shared;
	int64_t sum = n;

	if (is_closed(n))
		return n;
	shared = fz_account_find(atomic_load(&account->shared));
	if (shared != NULL && shared != account) {
		n = atomic_exchange(&shared->held, ACCOUNT_CLOSED);
		sum += is_closed(n) ? 0 : n;
	}
	if (sum > HELD_MAX || sum < -HELD_MAX)
		return sum > 0 ? HELD_MAX : -HELD_MAX;
	return (int32_t)sum;
}

/*
 * The number of lost tokens: at most `n`, without those that are held here or
 * in the pipe. `n` may be wrong: a process may overwrite its account.
 */
static int32_t
at_most_missing(const struct fz_slots *s, int32_t n)
{
	int32_t missing = SLOTS_OF_MAKE;

	if (s->shared[0] != -1)
		missing = (int32_t)(s->n - 1 - s->ntokens -
				    fz_jobserver_count(s->shared[0]));
	if (missing < 0)
		missing = 0;
	return n < missing ? n : missing;
}

/* maximum number of tokens for one write(); less than a page */
enum { WRITE_MAX = 256 };

static bool
has_room(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int rc;

	do
		rc = poll(&pfd, 1, 0);
	while (rc == -1 && errno == EINTR);
	return rc == 1 && (pfd.revents & POLLOUT) != 0;
}

/*
 * Write tokens to the pipe, which has room for all tokens. If it is full, it
 * contains bytes of another origin. The tokens are then dropped, because
 * waiting for a reader could last forever.
 */
static void
write_tokens(const struct fz_slots *s, const unsigned char *tokens, unsigned n)
{
	for (unsigned some; n > 0 && has_room(s->out); n -= some) {
		some = n < WRITE_MAX ? n : WRITE_MAX;
		fz_fd_write_all(s->out, tokens, some);
		tokens += some;
	}
}

void
fz_slots_write_new_tokens(const struct fz_slots *s, unsigned n)
{
	unsigned char some[WRITE_MAX];

	memset(some, TOKEN, WRITE_MAX);
	for (; n > WRITE_MAX && has_room(s->out); n -= WRITE_MAX)
		write_tokens(s, some, WRITE_MAX);
	write_tokens(s, some, n < WRITE_MAX ? n : WRITE_MAX);
}

bool
fz_slots_read_token(struct fz_slots *s)
{
	unsigned char *token = s->tokens + s->ntokens;

	if (s->dry || s->ntokens == s->tokens_cap)
		return false;
	if (!may_take(s->lineage)) {
		s->dry = true; /* no watch: never read again */
		return false;
	}
	if (s->in == -1)
		s->in = fz_jobserver_reader(s->shared[0]);
	if (s->in == -1 || fz_fd_read(s->in, token, 1) != 1)
		return false;
	if (!count(s->lineage)) {
		write_tokens(s, token, 1);
		return false;
	}
	s->ntokens++;
	return true;
}

void
fz_slots_give_up_tokens(struct fz_slots *s, unsigned keep)
{
	unsigned n = s->ntokens - keep;

	s->ntokens = keep;
	if (uncount(s->lineage, (int32_t)n))
		write_tokens(s, s->tokens + keep, n);
}

/* Also replaces tokens that were lost when a process was killed. */
void
fz_slots_set_tokens(struct fz_slots *s, unsigned want)
{
	unsigned have = fz_jobserver_count(s->shared[0]);

	if (have < want)
		fz_slots_write_new_tokens(s, want - have);
	for (; have > want && fz_slots_read_token(s); have--)
		s->ntokens--;
}

void
fz_slots_died(struct fz_slots *slots, struct fz_account *account)
{
	int32_t n = close_account(account);

	if (n == 0 || is_closed(n))
		return;
	n = at_most_missing(slots, n);
	/*
	 * `n` is negative if a process was killed between the two steps of a
	 * count.
	 */
	if (uncount(slots->lineage, n) && n > 0)
		fz_slots_write_new_tokens(slots, (unsigned)n);
}

void
fz_slots_leave(struct fz_slots *slots)
{
	const struct fz_lineage *lineage = slots->lineage;
	unsigned own = slots->ntokens;
	int32_t held = (int32_t)own;

	slots->ntokens = 0;
	if (lineage != NULL) {
		held = close_account(lineage->account);
		if (is_closed(held))
			return;
		held = at_most_missing(slots, held);
		if (!uncount(lineage->above, held))
			return;
	}
	write_tokens(slots, slots->tokens, own);
	if (held > (int32_t)own)
		fz_slots_write_new_tokens(slots, (unsigned)held - own);
}
