#include "shared/arena.h"

#include <stdlib.h>
#include <string.h>

#include "shared/arena_state.h"

static int
move_to_malloc(struct fz_arena_buf *ab, size_t need)
{
	unsigned char *data = malloc(need);

	if (data == NULL)
		return -1;
	memcpy(data, ab->buf.data, ab->buf.len);
	fz_arena_give_back(ab->arena, ab->offset);
	ab->buf.data = data;
	ab->buf.cap = need;
	ab->in_arena = false;
	return 0;
}

/*
 * Enlarge a buffer, usually in place, without a copy. So the steps are small: a
 * large step would touch memory that may never be needed.
 */
static int
resize_in_arena(struct fz_arena_buf *ab, size_t need)
{
	size_t longer = 0, cap = need + need / 2;
	unsigned char *data;
	uint64_t offset;

	if (ab->in_arena)
		longer =
		    fz_arena_extend(ab->arena, ab->offset, need + need / 8);
	if (longer != 0) {
		ab->buf.cap = longer;
		return 0;
	}
	data = fz_arena_try_alloc(ab->arena, cap, &offset);
	if (data == NULL)
		return -1;
	if (ab->buf.len != 0)
		memcpy(data, ab->buf.data, ab->buf.len);
	ab->buf.store->release(&ab->buf);
	ab->buf.data = data;
	ab->buf.cap = cap;
	ab->offset = offset;
	ab->in_arena = true;
	return 0;
}

static int
resize(struct fz_buf *buf, size_t need)
{
	struct fz_arena_buf *ab = (struct fz_arena_buf *)buf;

	if (ab->arena != NULL && need > ab->threshold &&
	    resize_in_arena(ab, need) == 0)
		return 0;
	return ab->in_arena ? move_to_malloc(ab, need)
			    : fz_buf_resize(buf, need);
}

static void
release(struct fz_buf *buf)
{
	struct fz_arena_buf *ab = (struct fz_arena_buf *)buf;

	if (ab->in_arena)
		fz_arena_give_back(ab->arena, ab->offset);
	else
		free(buf->data);
	ab->in_arena = false;
}

static const struct fz_buf_store store = { resize, release };

void
fz_arena_buf_init(
    struct fz_arena_buf *ab, struct fz_arena *arena, size_t threshold)
{
	*ab = (struct fz_arena_buf){ .arena = arena, .threshold = threshold };
	fz_buf_init(&ab->buf);
	ab->buf.store = &store;
}

uint64_t
fz_arena_buf_take(struct fz_arena_buf *ab)
{
	uint64_t offset = ab->offset, position = fz_arena_position(offset);

	fz_extent_shrink(fz_arena_extents(ab->arena, position), position,
	    ab->buf.len, FZ_EXTENT_WARM);
	fz_arena_cool(ab->arena, FZ_ARENA_WARM);
	ab->buf.data = NULL;
	ab->buf.len = ab->buf.cap = 0;
	ab->in_arena = false;
	return offset;
}
