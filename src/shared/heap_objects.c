#include "shared/heap.h"

#include <string.h>

#include "base/clock.h"
#include "shared/heap_state.h"

uint32_t
fz_heap_name(const struct fz_object *object)
{
	return (uint32_t)(fz_ref_offset(object) / CELL);
}

/* What dead members owned is freed soon, even if no process joins. */
static void
reclaim_sometimes(void)
{
	int64_t now = fz_clock_ns();

	if (now < fz_heap.reclaim_ns)
		return;
	fz_heap.reclaim_ns = now + FZ_CLOCK_SECOND;
	fz_heap_reclaim();
}

void *
fz_heap_alloc(size_t size, struct fz_err *err)
{
	if (fz_heap_join(err) == 0)
		return NULL;
	reclaim_sometimes();
	return fz_heap_take_chunks(size, err);
}

/* A free cell in the chunk of this process; NULL: there is none. */
static struct fz_object *
free_cell(void)
{
	for (; fz_heap.cells != NULL && fz_heap.next_cell < NCELLS;
	     fz_heap.next_cell++) {
		struct fz_object *cell =
		    cell_at(fz_heap.cells, fz_heap.next_cell);

		if (atomic_load(&cell->type) == 0)
			return cell;
	}
	return NULL;
}

static struct fz_object *
new_cell(struct fz_err *err)
{
	struct fz_object *cell = free_cell();
	unsigned char *chunk;

	if (cell != NULL)
		return cell;
	chunk = fz_heap_alloc(CHUNK, err);
	if (chunk == NULL)
		return NULL;
	memset(chunk, 0, CHUNK);
	atomic_store(&fz_heap.owners[chunk_number(chunk)],
	    owner_word(CELLS, fz_heap.self));
	fz_heap.cells = chunk;
	fz_heap.next_cell = 0;
	return cell_at(chunk, 0);
}

void *
fz_heap_new(uint32_t type, size_t size, struct fz_err *err)
{
	struct fz_object *object;

	if (fz_heap_join(err) == 0)
		return NULL;
	if (size <= CELL) {
		object = new_cell(err);
		size = CELL;
	} else {
		object = fz_heap_alloc(size, err);
	}
	if (object == NULL)
		return NULL;
	memset(object, 0, size);
	object->generation = atomic_fetch_add(&heap_head()->generation, 1) + 1;
	object->maker = fz_heap.self;
	if (size > CELL)
		fz_heap_set_owner(object, object);
	atomic_store(&object->type, type);
	return object;
}

/* Free the chunks that an object owns beside its own: a queue's segments. */
static void
free_owned(uint32_t name, uint32_t own)
{
	uint32_t top = atomic_load(&heap_head()->top);

	for (uint32_t i = 0; i < top; i++) {
		uint64_t owner = atomic_load(&fz_heap.owners[i]);

		if (owner_of(owner) == (OBJECT_BIT | name) && i != own)
			fz_heap_free_chunks(i, 1);
	}
}

/* Free the chunks that an object lies in. */
static void
free_object_chunks(const struct fz_object *object)
{
	uint32_t i = chunk_number(object);

	fz_heap_free_chunks(i, (uint32_t)atomic_load(&fz_heap.owners[i]));
}

static void
free_cell_at(struct fz_object *object)
{
	unsigned char *chunk = chunk_at(chunk_number(object));
	size_t i = 0;

	if (chunk == fz_heap.cells) {
		size_t place =
		    ((size_t)((unsigned char *)object - chunk)) / CELL;

		if (place < fz_heap.next_cell)
			fz_heap.next_cell = place;
		return;
	}
	while (i < NCELLS && atomic_load(&cell_at(chunk, i)->type) == 0)
		i++;
	if (i == NCELLS)
		fz_heap_free_chunks(chunk_number(object), 1);
}

void
fz_heap_free(struct fz_object *object)
{
	uint32_t i = chunk_number(object);

	atomic_store(&object->type, 0);
	if (atomic_load(&object->owns))
		free_owned(fz_heap_name(object), i);
	if (owner_of(atomic_load(&fz_heap.owners[i])) == CELLS)
		free_cell_at(object);
	else
		free_object_chunks(object);
}

struct fz_ref *
fz_heap_dropped(void)
{
	return &fz_heap.dropped;
}

struct fz_object *
fz_heap_find(uint32_t name, uint32_t generation, uint32_t type)
{
	uint64_t offset = (uint64_t)name * CELL;
	struct fz_object *object = fz_ref_at(offset);

	if (fz_heap_base == NULL || offset == 0 ||
	    offset > fz_heap.size - CELL ||
	    (unsigned char *)object < fz_heap.chunks ||
	    chunk_number(object) >= atomic_load(&heap_head()->top) ||
	    is_free(atomic_load(&fz_heap.owners[chunk_number(object)])))
		return NULL;
	return atomic_load(&object->type) == type &&
		       object->generation == generation
		   ? object
		   : NULL;
}
