#include "shared/waiter.h"

#include "shared/heap.h"

enum { STATE_BITS = 2, NUMBER_BITS = 32 };

static uint64_t
word_of(uint32_t name, uint32_t number, enum fz_waiter_state state)
{
	return ((uint64_t)name << NUMBER_BITS | number) << STATE_BITS |
	       (uint64_t)state;
}

static enum fz_waiter_state
state_of(uint64_t word)
{
	return (enum fz_waiter_state)(word & ((1 << STATE_BITS) - 1));
}

static uint32_t
name_of(uint64_t word)
{
	return (uint32_t)(word >> (STATE_BITS + NUMBER_BITS));
}

static uint32_t
number_of(uint64_t word)
{
	return (uint32_t)(word >> STATE_BITS);
}

/* A waiter number with this bit is that of a seat. */
#define SEAT_BIT UINT32_C(0x80000000)

static struct fz_heap_wait *
wait_of(uint32_t waiter)
{
	return fz_heap_wait(
	    waiter & SEAT_BIT ? waiter & ~SEAT_BIT : fz_heap_place(waiter));
}

uint32_t
fz_waiter_take(struct fz_membership *own)
{
	uint32_t self = fz_heap_self(own), seat;

	if (atomic_load(&wait_of(self)->what) == 0)
		return self;
	seat = fz_heap_take_seat(own);
	return seat != 0 ? seat | SEAT_BIT : 0;
}

void
fz_waiter_give_back(struct fz_membership *own, uint32_t waiter)
{
	if (waiter & SEAT_BIT)
		fz_heap_free_seat(own, waiter & ~SEAT_BIT);
}

bool
fz_waiter_begin(uint32_t waiter, uint32_t name, uint32_t number)
{
	struct fz_heap_wait *wait = wait_of(waiter);

	if (atomic_load(&wait->what) != 0)
		return false;
	atomic_store(&wait->what, name);
	atomic_store(&wait->ticket, word_of(name, number, FZ_WAITER_WAITS));
	return true;
}

enum fz_waiter_state
fz_waiter_state(uint32_t waiter)
{
	return state_of(atomic_load(&wait_of(waiter)->ticket));
}

struct fz_eventcount *
fz_waiter_wakeup(uint32_t waiter)
{
	return &wait_of(waiter)->wakeup;
}

bool
fz_waiter_cancel(uint32_t waiter)
{
	struct fz_heap_wait *wait = wait_of(waiter);
	uint64_t word = atomic_load(&wait->ticket);

	return state_of(word) == FZ_WAITER_WAITS &&
	       atomic_compare_exchange_strong(&wait->ticket, &word, 0);
}

enum fz_waiter_state
fz_waiter_end(uint32_t waiter)
{
	struct fz_heap_wait *wait = wait_of(waiter);
	uint64_t word = atomic_exchange(&wait->ticket, 0);

	atomic_store(&wait->what, 0);
	return state_of(word);
}

/* The number after `i` in the sequence of all used places and seats. */
static uint32_t
after(uint32_t i)
{
	return i + 1 == fz_heap_nplaces() ? FZ_HEAP_MEMBERS : i + 1;
}

bool
fz_waiter_next(struct fz_waiter *w, uint32_t name, enum fz_waiter_state state)
{
	uint32_t n = fz_heap_nseats();

	for (uint32_t i = w->member != 0 ? after(w->place) : 0; i < n;
	     i = after(i)) {
		struct fz_heap_wait *wait = fz_heap_wait(i);
		uint32_t member = atomic_load(&wait->member);
		uint64_t word = atomic_load(&wait->ticket);

		if (member == 0 || name_of(word) != name ||
		    state_of(word) != state)
			continue;
		*w = (struct fz_waiter){ word, i, member };
		return true;
	}
	return false;
}

bool
fz_waiter_is_before(const struct fz_waiter *a, const struct fz_waiter *b)
{
	return (int32_t)(number_of(a->word) - number_of(b->word)) < 0;
}

bool
fz_waiter_notify(const struct fz_waiter *w, enum fz_waiter_state state)
{
	struct fz_heap_wait *wait = fz_heap_wait(w->place);
	uint64_t before = w->word;
	uint64_t after = word_of(name_of(before), number_of(before), state);

	if (!atomic_compare_exchange_strong(&wait->ticket, &before, after))
		return false;
	fz_eventcount_notify(&wait->wakeup, FZ_EVENTCOUNT_ALL);
	return true;
}
