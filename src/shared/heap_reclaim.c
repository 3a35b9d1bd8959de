/* nanosleep is an extension of POSIX. */
#define _GNU_SOURCE
#include "shared/heap_state.h"

#include <time.h>

#include "base/clock.h"

/*
 * Time from the death of a member until what it owned is freed. The descendants
 * of a killed process may use its objects until they end, which is soon.
 */
#define RECLAIM_AFTER_NS FZ_CLOCK_SECOND

/* The object that owns a block with this owner word; NULL if no object does. */
static const struct fz_object *
owner_object(uint64_t owner)
{
	if (!(owner_of(owner) & OBJECT_BIT))
		return NULL;
	return fz_ref_at(
	    (uint64_t)(owner_of(owner) & ~OBJECT_BIT) * SMALL_SIZE);
}

/*
 * Whether the dead `maker` created the object and no process can receive it any
 * more. The type is 0 if the maker was killed while freeing the object.
 */
static bool
is_unreachable(const struct fz_object *object, uint32_t maker)
{
	return object->maker == maker &&
	       (atomic_load(&object->type) == 0 || !atomic_load(&object->sent));
}

/*
 * Free the small objects of a dead member in block `i`. If no object is left in
 * the block, free the block, too.
 */
static void
reclaim_small(uint32_t i, uint32_t member)
{
	bool used = false;

	for (size_t k = 0; k < NSMALL; k++) {
		struct fz_object *object = small_at(block_at(i), k);

		if (is_unreachable(object, member))
			atomic_store(&object->type, 0);
		used = used || atomic_load(&object->type) != 0;
	}
	if (!used)
		fz_heap_drop_blocks(i, 1);
}

/* Free objects last, because their other blocks are found through them. */
void
fz_heap_reclaim_member(uint32_t member)
{
	uint32_t top = atomic_load(&heap_head()->top);

	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < top; i++) {
			uint64_t owner = atomic_load(&heap->owners[i]);
			const struct fz_object *object = owner_object(owner);

			if (owner_of(owner) == member)
				fz_heap_drop_blocks(i, 1);
			else if (owner == owner_word(SMALL, member) &&
				 pass == 1)
				reclaim_small(i, member);
			else if (object != NULL &&
				 is_unreachable(object, member) &&
				 (pass == 1 || block_number(object) != i))
				fz_heap_drop_blocks(i, 1);
		}
	}
	fz_heap_search_from(0);
}

/* Whether the locked place of a dead member can be reused. */
static bool
is_reusable(struct member *m)
{
	int64_t now = fz_clock_ns();

	if (atomic_load(&m->wait.member) == 0)
		return true;
	if (m->dead_ns == 0)
		m->dead_ns = now;
	return now - m->dead_ns >= RECLAIM_AFTER_NS;
}

/*
 * Lock a place whose member is dead, and free what that member owned. NULL if
 * the member may be alive, or has died just now (sets `*soon`).
 */
static struct member *
reclaim_place(uint32_t place, bool *soon)
{
	struct member *m = member_at(place);
	uint32_t member;

	if (fz_heap_lock(&m->life, false) != 0)
		return NULL;
	member = atomic_load(&m->wait.member);
	if (member != 0 && fz_heap_is_running(m)) {
		pthread_mutex_unlock(&m->life);
		return NULL;
	}
	if (!is_reusable(m)) {
		pthread_mutex_unlock(&m->life);
		*soon = true;
		return NULL;
	}
	if (member != 0)
		fz_heap_reclaim_member(member);
	atomic_store(&m->wait.member, 0);
	return m;
}

static struct member *
reclaim_any_place(uint32_t *place, bool *soon)
{
	uint32_t n = fz_heap_nplaces();
	struct member *m = NULL;

	*soon = false;
	for (uint32_t i = 0; i < n && m == NULL; i++) {
		m = reclaim_place(i, soon);
		*place = i;
	}
	return m;
}

struct member *
fz_heap_reclaim_place(uint32_t *place)
{
	const struct timespec nap = { 0, 10 * FZ_CLOCK_MS };
	struct member *m;
	bool soon;

	while ((m = reclaim_any_place(place, &soon)) == NULL && soon &&
	       fz_heap_nplaces() == FZ_HEAP_MEMBERS)
		nanosleep(&nap, NULL);
	return m;
}

void
fz_heap_reclaim(void)
{
	uint32_t n = fz_heap_nplaces();
	bool soon;

	for (uint32_t i = 0; i < n; i++) {
		struct member *m = NULL;

		if (atomic_load(&member_at(i)->wait.member) != 0)
			m = reclaim_place(i, &soon);
		if (m != NULL)
			pthread_mutex_unlock(&m->life);
	}
}
