#include "shared/endpoint.h"

#define USED UINT32_C(0x80000000) /* a bit above all numbers of members */

static _Atomic uint32_t *
own_place(struct fz_endpoint *end, uint32_t self)
{
	return &end->at[fz_heap_place(self)];
}

/*
 * Note the member `self`. The first member ever is stored in `*first`. When
 * another one is noted, `*n` becomes 2.
 */
static void
note(_Atomic uint32_t *first, _Atomic uint32_t *n, uint32_t self)
{
	uint32_t before = 0;

	if (!atomic_compare_exchange_strong(first, &before, self) &&
	    before != self)
		atomic_store(n, 2);
}

/* Whether note() was ever called for a member other than `self`. */
static bool
was_other(
    const _Atomic uint32_t *first, const _Atomic uint32_t *n, uint32_t self)
{
	uint32_t member = atomic_load(first);

	return member != 0 && (member != self || atomic_load(n) == 2);
}

void
fz_endpoint_hold(struct fz_endpoint *end, uint32_t self)
{
	_Atomic uint32_t *at = own_place(end, self);

	if ((atomic_load(at) & ~USED) == self)
		return;
	note(&end->holder, &end->nholders, self);
	atomic_store(at, self);
}

void
fz_endpoint_use(struct fz_endpoint *end, uint32_t self)
{
	_Atomic uint32_t *at = own_place(end, self);

	if (atomic_load_explicit(at, memory_order_relaxed) == (USED | self))
		return;
	fz_endpoint_hold(end, self);
	note(&end->user, &end->nusers, self);
	atomic_store(at, USED | self);
}

void
fz_endpoint_leave(struct fz_endpoint *end, uint32_t self)
{
	_Atomic uint32_t *at = own_place(end, self);

	if ((atomic_load(at) & ~USED) == self)
		atomic_store(at, 0);
}

bool
fz_endpoint_is_used(const struct fz_endpoint *end, uint32_t self)
{
	return atomic_load(&end->at[fz_heap_place(self)]) == (USED | self);
}

bool
fz_endpoint_is_over(const struct fz_endpoint *end, uint32_t self)
{
	uint32_t n = fz_heap_nplaces();
	bool held = false, own = false;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = atomic_load(&end->at[i]), member = at & ~USED;

		if (member == self) {
			own = true;
		} else if (member != 0 && fz_heap_alive(member)) {
			if (at & USED)
				return false;
			held = true;
		}
	}
	if (was_other(&end->user, &end->nusers, self))
		return true;
	return !held && (!own || was_other(&end->holder, &end->nholders, self));
}
