#include "shared/unfinished.h"

#include <string.h>

enum { TABLE = FZ_HEAP_MEMBERS * sizeof(uint64_t) };

static uint32_t
member_of(uint64_t count)
{
	return (uint32_t)(count >> 32);
}

/* ---- counting ---------------------------------------------------------- */

/* The own one among the few, or one that is free; NULL: others have all. */
static _Atomic uint64_t *
slot_of_few(struct fz_unfinished *owed, uint32_t self)
{
	_Atomic uint64_t *slot = NULL;

	for (unsigned i = 0; i < FZ_UNFINISHED_FEW; i++) {
		uint64_t count =
		    atomic_load_explicit(&owed->few[i], memory_order_relaxed);

		if (member_of(count) == self)
			return &owed->few[i];
		if (slot == NULL && (uint32_t)count == 0)
			slot = &owed->few[i];
	}
	return slot;
}

/* Who is killed here leaves a chunk that is freed with the object. */
static _Atomic uint64_t *
make_table(
    struct fz_unfinished *owed, struct fz_object *object, struct fz_err *err)
{
	void *table = fz_heap_take(TABLE, err);

	if (table == NULL)
		return NULL;
	memset(table, 0, TABLE);
	fz_heap_own(table, object);
	fz_ref_set(&owed->many, table);
	return table;
}

_Atomic uint64_t *
fz_unfinished_slot(struct fz_unfinished *owed, struct fz_object *object,
    uint32_t self, struct fz_err *err)
{
	_Atomic uint64_t *slot = slot_of_few(owed, self), *table;

	if (slot != NULL)
		return slot;
	table = fz_ref_get(&owed->many);
	if (table == NULL)
		table = make_table(owed, object, err);
	return table != NULL ? &table[fz_heap_place(self)] : NULL;
}

void
fz_unfinished_count(_Atomic uint64_t *slot, uint32_t self)
{
	uint64_t before = atomic_load(slot), after;

	do {
		after = member_of(before) == self ? before + 1
						  : (uint64_t)self << 32 | 1;
		if ((uint32_t)after == 0)
			return;
	} while (!atomic_compare_exchange_weak(slot, &before, after));
}

/* ---- paying ------------------------------------------------------------ */

/* How many there are, and each of them. */
static uint32_t
slots(struct fz_unfinished *owed)
{
	return fz_ref_get(&owed->many) == NULL
		   ? FZ_UNFINISHED_FEW
		   : FZ_UNFINISHED_FEW + fz_heap_nplaces();
}

static _Atomic uint64_t *
slot_at(struct fz_unfinished *owed, uint32_t i)
{
	_Atomic uint64_t *table;

	if (i < FZ_UNFINISHED_FEW)
		return &owed->few[i];
	table = fz_ref_get(&owed->many);
	return &table[i - FZ_UNFINISHED_FEW];
}

/* Take one off; false where there is none, or not of `self`, if not 0. */
static bool
pay(_Atomic uint64_t *slot, uint32_t self, uint32_t *left)
{
	uint64_t before = atomic_load(slot);

	while (
	    (uint32_t)before != 0 && (self == 0 || member_of(before) == self)) {
		if (atomic_compare_exchange_weak(slot, &before, before - 1)) {
			*left = (uint32_t)before - 1;
			return true;
		}
	}
	return false;
}

bool
fz_unfinished_pay(struct fz_unfinished *owed, uint32_t self)
{
	_Atomic uint64_t *table = fz_ref_get(&owed->many);
	uint32_t n = slots(owed), left = 0;
	bool paid = false;

	for (uint32_t i = 0; i < FZ_UNFINISHED_FEW && !paid; i++)
		paid = pay(&owed->few[i], self, &left);
	if (!paid && table != NULL)
		paid = pay(&table[fz_heap_place(self)], self, &left);
	/* Another may have handed on what it took. */
	for (uint32_t i = 0; i < n && !paid; i++)
		paid = pay(slot_at(owed, i), 0, &left);
	if (paid && left == 0)
		fz_eventcount_wake(&owed->gate, FZ_EVENTCOUNT_ALL);
	return paid;
}

bool
fz_unfinished_any(struct fz_unfinished *owed, bool late)
{
	uint32_t n = slots(owed);

	for (uint32_t i = 0; i < n; i++) {
		uint64_t count = atomic_load(slot_at(owed, i));

		if ((uint32_t)count != 0 &&
		    (!late || fz_heap_alive(member_of(count))))
			return true;
	}
	return false;
}
