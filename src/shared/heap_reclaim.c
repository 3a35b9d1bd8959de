/* nanosleep is no part of C. */
#define _GNU_SOURCE
#include "shared/heap_state.h"

#include <time.h>

#include "base/clock.h"

/* What a process that was killed had started ends a moment after it. */
#define SWEEP_AFTER_NS FZ_CLOCK_SECOND

/* The object that owns a chunk, NULL where none does. */
static const struct fz_object *
owner_object(uint64_t owner)
{
	if (!(whose(owner) & OBJECT_BIT))
		return NULL;
	return fz_ref_at((uint64_t)(whose(owner) & ~OBJECT_BIT) * CELL);
}

/*
 * Whether an object can be freed, since nobody can come to have it any more;
 * its maker may have been killed while it did so.
 */
static bool
is_left(const struct fz_object *object, uint32_t maker)
{
	return object->maker == maker &&
	       (atomic_load(&object->type) == 0 || !atomic_load(&object->sent));
}

/* Free a dead member's objects in a chunk of cells, and the chunk. */
static void
sweep_cells(uint32_t i, uint32_t member)
{
	bool used = false;

	for (size_t k = 0; k < NCELLS; k++) {
		struct fz_object *object = cell_at(chunk_at(i), k);

		if (is_left(object, member))
			atomic_store(&object->type, 0);
		used = used || atomic_load(&object->type) != 0;
	}
	if (!used)
		fz_heap_drop_chunks(i, 1);
}

/*
 * Free what a dead member owned: what it had taken, and was about to free, and
 * the objects that it had not sent. Those last, as by them one finds what they
 * own.
 */
static void
sweep(uint32_t member)
{
	uint32_t top = atomic_load(&heap_head()->top);

	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < top; i++) {
			uint64_t owner = atomic_load(&fz_heap.owners[i]);
			const struct fz_object *object = owner_object(owner);

			if (whose(owner) == member)
				fz_heap_drop_chunks(i, 1);
			else if (owner == owner_word(CELLS, member) &&
				 pass == 1)
				sweep_cells(i, member);
			else if (object != NULL && is_left(object, member) &&
				 (pass == 1 || chunk_number(object) != i))
				fz_heap_drop_chunks(i, 1);
		}
	}
	fz_heap_search_from(0);
}

/* Whether a place, locked, can be another's. */
static bool
is_over(struct member *m)
{
	int64_t now = fz_clock_ns();

	if (atomic_load(&m->wait.member) == 0)
		return true;
	if (m->dead_ns == 0)
		m->dead_ns = now;
	return now - m->dead_ns >= SWEEP_AFTER_NS;
}

/*
 * Lock the place and free what its member had; NULL where that may live, or
 * has died just now: then `*soon`.
 */
static struct member *
bury(uint32_t place, bool *soon)
{
	struct member *m = member_at(place);
	uint32_t member;

	if (fz_heap_lock(&m->life, false) != 0)
		return NULL;
	member = atomic_load(&m->wait.member);
	if (member != 0 && (member == fz_heap.self || fz_heap_runs(m))) {
		pthread_mutex_unlock(&m->life);
		return NULL;
	}
	if (!is_over(m)) {
		pthread_mutex_unlock(&m->life);
		*soon = true;
		return NULL;
	}
	if (member != 0)
		sweep(member);
	atomic_store(&m->wait.member, 0);
	return m;
}

static struct member *
dead_place(uint32_t *place, bool *soon)
{
	uint32_t n = fz_heap_nplaces();
	struct member *m = NULL;

	*soon = false;
	for (uint32_t i = 0; i < n && m == NULL; i++) {
		m = bury(i, soon);
		*place = i;
	}
	return m;
}

struct member *
fz_heap_dead_place(uint32_t *place)
{
	const struct timespec nap = { 0, 10 * FZ_CLOCK_MS };
	struct member *m;
	bool soon;

	while ((m = dead_place(place, &soon)) == NULL && soon &&
	       fz_heap_nplaces() == FZ_HEAP_MEMBERS)
		nanosleep(&nap, NULL);
	return m;
}

void
fz_heap_sweep_dead(void)
{
	uint32_t n = fz_heap_nplaces();
	bool soon;

	for (uint32_t i = 0; i < n; i++) {
		struct member *m = NULL;

		if (atomic_load(&member_at(i)->wait.member) != 0)
			m = bury(i, &soon);
		if (m != NULL)
			pthread_mutex_unlock(&m->life);
	}
}
