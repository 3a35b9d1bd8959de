/* Robust mutexes are an extension of POSIX. */
#define _GNU_SOURCE
#include "shared/heap.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "proc/proctree.h"
#include "shared/heap_state.h"

uint32_t
fz_heap_place(uint32_t member)
{
	return member & (FZ_HEAP_MEMBERS - 1);
}

uint32_t
fz_heap_nplaces(void)
{
	return heap->base != NULL ? atomic_load(&heap_head()->nplaces) : 0;
}

uint32_t
fz_heap_nseats(void)
{
	return FZ_HEAP_MEMBERS + atomic_load(&heap_head()->nseats);
}

struct fz_heap_wait *
fz_heap_wait(uint32_t number)
{
	return number < FZ_HEAP_MEMBERS ? &member_at(number)->wait
					: &seat_at(number)->wait;
}

static uint32_t
new_seat(uint32_t self)
{
	uint32_t n = atomic_load(&heap_head()->nseats);
	struct seat *seat;

	/* reserve the memory of the seat before other processes see it */
	do {
		seat = seat_at(FZ_HEAP_MEMBERS + n);
		if (n == FZ_HEAP_SEATS ||
		    fz_heap_reserve(seat, sizeof(*seat)) != 0)
			return 0;
	} while (
	    !atomic_compare_exchange_weak(&heap_head()->nseats, &n, n + 1));
	seat->place = fz_heap_place(self) + 1;
	atomic_store(&seat->wait.member, self);
	return FZ_HEAP_MEMBERS + n;
}

uint32_t
fz_heap_take_seat(struct fz_membership *own)
{
	uint32_t number = own->free_seat;

	if (number == 0)
		return new_seat(own->number);
	own->free_seat = seat_at(number)->next;
	return number;
}

void
fz_heap_free_seat(struct fz_membership *own, uint32_t number)
{
	seat_at(number)->next = own->free_seat;
	own->free_seat = number;
}

static void
reset_wait(struct fz_heap_wait *wait, uint32_t self)
{
	atomic_store(&wait->what, 0);
	atomic_store(&wait->ticket, 0);
	atomic_store(&wait->member, self);
}

/* Take over the seats that earlier members had at this place. */
static void
inherit_seats(struct fz_membership *own, uint32_t place, uint32_t self)
{
	uint32_t n = fz_heap_nseats();

	own->free_seat = 0;
	for (uint32_t i = FZ_HEAP_MEMBERS; i < n; i++) {
		if (seat_at(i)->place != place + 1)
			continue;
		reset_wait(&seat_at(i)->wait, self);
		fz_heap_free_seat(own, i);
	}
}

int
fz_heap_lock(pthread_mutex_t *mutex, bool wait)
{
	int code =
	    wait ? pthread_mutex_lock(mutex) : pthread_mutex_trylock(mutex);

	if (code == EOWNERDEAD)
		code = pthread_mutex_consistent(mutex);
	return code;
}

bool
fz_heap_is_running(const struct member *m)
{
	return m->pid != 0 && fz_proctree_runs_since(m->pid, m->joined_ns);
}

bool
fz_heap_alive(uint32_t member)
{
	struct member *m;
	bool runs;

	if (member == 0 || heap->base == NULL)
		return false;
	m = member_at(fz_heap_place(member));
	if (atomic_load(&m->wait.member) != member)
		return false;
	if (fz_heap_lock(&m->life, false) != 0)
		return true;
	runs = fz_heap_is_running(m);
	pthread_mutex_unlock(&m->life);
	/*
	 * check again, because another member may have got the place meanwhile
	 */
	return runs && atomic_load(&m->wait.member) == member;
}

bool
fz_heap_is_alone(
    uint32_t self, bool (*ignores)(const void *ctx, pid_t pid), const void *ctx)
{
	uint32_t n = fz_heap_nplaces();

	if (n != 0 && atomic_load(&heap_head()->nforeign) != 0)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t member = atomic_load(&fz_heap_wait(i)->member);

		if (member != self && atomic_load(&member_at(i)->shares) &&
		    !ignores(ctx, member_at(i)->pid) && fz_heap_alive(member))
			return false;
	}
	return true;
}

bool
fz_heap_is_only(uint32_t self)
{
	return self != 0 && atomic_load(&heap_head()->nsharers) == 1;
}

static struct member *
new_place(uint32_t *place, struct fz_err *err)
{
	uint32_t n = fz_heap_nplaces();
	struct member *m = member_at(n);
	int code;

	if (n == FZ_HEAP_MEMBERS) {
		fz_err_set(err, FZ_ERR_ERROR,
		    "more than %d processes use shared objects", (int)n);
		return NULL;
	}
	code = fz_heap_reserve(m, sizeof(*m)) == 0 ? fz_heap_init_lock(&m->life)
						   : errno;
	if (code == 0)
		code = fz_heap_lock(&m->life, false);
	if (code != 0) {
		fz_err_sys(err, code, "cannot use shared objects");
		return NULL;
	}
	atomic_store(&heap_head()->nplaces, n + 1);
	*place = n;
	return m;
}

static int64_t
boot_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * FZ_CLOCK_SECOND + t.tv_nsec;
}

static uint32_t
join(struct fz_membership *own, struct fz_err *err)
{
	struct head *head = heap_head();
	uint32_t place = 0, self = 0;
	struct member *m;
	int code = fz_heap_lock(&head->joining, true);

	if (code != 0) {
		fz_err_sys(err, code, "cannot use shared objects");
		return 0;
	}
	m = fz_heap_reclaim_place(&place);
	if (m == NULL)
		m = new_place(&place, err);
	if (m != NULL) {
		m->generation = m->generation % (GENERATIONS - 1) + 1;
		self = m->generation << PLACE_BITS | place;
		m->dead_ns = 0;
		atomic_store(&m->shares, false);
		m->pid = getpid();
		m->joined_ns = boot_ns();
		inherit_seats(own, place, self);
		reset_wait(&m->wait, self);
	}
	pthread_mutex_unlock(&head->joining);
	return self;
}

uint32_t
fz_heap_enter(struct fz_membership *own, struct fz_err *err)
{
	uint32_t self =
	    own->generation == fz_process.generation ? own->owner : 0;

	if (self != 0 || fz_heap_open(err) != 0)
		return self;
	self = join(own, err);
	if (self != 0)
		*own = (struct fz_membership){ .acquired = own->acquired,
			.owner = self,
			.generation = fz_process.generation,
			.free_seat = own->free_seat,
			.task = own->task };
	return self;
}

uint32_t
fz_heap_join(struct fz_membership *own, struct fz_err *err)
{
	uint32_t self = fz_heap_self(own);

	if (self != 0)
		return self;
	self = fz_heap_enter(own, err);
	if (self == 0)
		return 0;
	atomic_store(&member_at(fz_heap_place(self))->shares, true);
	atomic_fetch_add(&heap_head()->nsharers, 1);
	own->number = self;
	return self;
}
