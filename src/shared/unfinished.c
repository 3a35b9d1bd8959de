#include "shared/unfinished.h"

#include <string.h>

enum { TABLE = FZ_HEAP_MEMBERS * sizeof(uint64_t) };

static uint32_t
member_of(uint64_t count)
{
	return (uint32_t)(count >> 32);
}

/*
 * The counter of `self` among those in the object; else a free one there; NULL
 * if there is neither.
 */
static _Atomic uint64_t *
find_few(struct fz_unfinished *unfinished, uint32_t self)
{
	_Atomic uint64_t *counter = NULL;

	for (unsigned i = 0; i < FZ_UNFINISHED_FEW; i++) {
		uint64_t count = atomic_load_explicit(
		    &unfinished->few[i], memory_order_relaxed);

		if (member_of(count) == self)
			return &unfinished->few[i];
		if (counter == NULL && (uint32_t)count == 0)
			counter = &unfinished->few[i];
	}
	return counter;
}

/*
 * Allocate the block of counters, which the object owns from the start: if the
 * process is killed here, the block is freed with the object.
 */
static _Atomic uint64_t *
make_table(struct fz_unfinished *unfinished, struct fz_object *object,
    uint32_t self, struct fz_err *err)
{
	void *table = fz_heap_alloc(self, TABLE, err);

	if (table == NULL)
		return NULL;
	memset(table, 0, TABLE);
	fz_heap_set_owner(table, object);
	fz_ref_set(&unfinished->many, table);
	return table;
}

_Atomic uint64_t *
fz_unfinished_counter(struct fz_unfinished *unfinished,
    struct fz_object *object, uint32_t self, struct fz_err *err)
{
	_Atomic uint64_t *counter = find_few(unfinished, self), *table;

	if (counter != NULL)
		return counter;
	table = fz_ref_get(&unfinished->many);
	if (table == NULL)
		table = make_table(unfinished, object, self, err);
	return table != NULL ? &table[fz_heap_place(self)] : NULL;
}

void
fz_unfinished_add(_Atomic uint64_t *counter, uint32_t self)
{
	uint64_t before = atomic_load(counter), after;

	do {
		after = member_of(before) == self ? before + 1
						  : (uint64_t)self << 32 | 1;
		if ((uint32_t)after == 0)
			return;
	} while (!atomic_compare_exchange_weak(counter, &before, after));
}

static uint32_t
count_counters(struct fz_unfinished *unfinished)
{
	return fz_ref_get(&unfinished->many) == NULL
		   ? FZ_UNFINISHED_FEW
		   : FZ_UNFINISHED_FEW + fz_heap_nplaces();
}

static _Atomic uint64_t *
counter_at(struct fz_unfinished *unfinished, uint32_t i)
{
	_Atomic uint64_t *table;

	if (i < FZ_UNFINISHED_FEW)
		return &unfinished->few[i];
	table = fz_ref_get(&unfinished->many);
	return &table[i - FZ_UNFINISHED_FEW];
}

/*
 * Subtract 1 from a counter; `*left`: the rest. False if the counter is 0, or
 * not that of the member `self` (0: of any).
 */
static bool
subtract(_Atomic uint64_t *counter, uint32_t self, uint32_t *left)
{
	uint64_t before = atomic_load(counter);

	while (
	    (uint32_t)before != 0 && (self == 0 || member_of(before) == self)) {
		if (atomic_compare_exchange_weak(
			counter, &before, before - 1)) {
			*left = (uint32_t)before - 1;
			return true;
		}
	}
	return false;
}

bool
fz_unfinished_ack(struct fz_unfinished *unfinished, uint32_t self)
{
	_Atomic uint64_t *table = fz_ref_get(&unfinished->many);
	uint32_t n = count_counters(unfinished), left = 0;
	bool done = false;

	for (uint32_t i = 0; i < FZ_UNFINISHED_FEW && !done; i++)
		done = subtract(&unfinished->few[i], self, &left);
	if (!done && table != NULL)
		done = subtract(&table[fz_heap_place(self)], self, &left);
	/* the item may have come from another process that had taken it */
	for (uint32_t i = 0; i < n && !done; i++)
		done = subtract(counter_at(unfinished, i), 0, &left);
	if (done && left == 0)
		fz_eventcount_notify(&unfinished->waiters, FZ_EVENTCOUNT_ALL);
	return done;
}

bool
fz_unfinished_any(struct fz_unfinished *unfinished, bool late)
{
	uint32_t n = count_counters(unfinished);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t count = atomic_load(counter_at(unfinished, i));

		if ((uint32_t)count != 0 &&
		    (!late || fz_heap_alive(member_of(count))))
			return true;
	}
	return false;
}
