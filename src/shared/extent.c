#include "shared/extent.h"

#include <stdlib.h>
#include <string.h>

#include "base/vec.h"

/* Make room for one more element, so that an insertion cannot fail. */
static int
make_room(struct fz_extents *ex)
{
	struct fz_extent *list =
	    fz_vec_room(ex->list, &ex->room, ex->n + 1, sizeof(*list));

	if (list == NULL)
		return -1;
	ex->list = list;
	return 0;
}

static void
insert(struct fz_extents *ex, size_t i, struct fz_extent e)
{
	memmove(
	    ex->list + i + 1, ex->list + i, (ex->n - i) * sizeof(*ex->list));
	ex->list[i] = e;
	ex->n++;
}

int
fz_extent_init(struct fz_extents *ex, uint64_t at, uint64_t len, uint64_t grain)
{
	*ex = (struct fz_extents){ .grain = grain };
	if (make_room(ex) == -1)
		return -1;
	insert(ex, 0, (struct fz_extent){ at, len, FZ_EXTENT_COLD });
	return 0;
}

void
fz_extent_fini(struct fz_extents *ex)
{
	free(ex->list);
	*ex = (struct fz_extents){ 0 };
}

static void
remove_at(struct fz_extents *ex, size_t i)
{
	ex->n--;
	memmove(
	    ex->list + i, ex->list + i + 1, (ex->n - i) * sizeof(*ex->list));
}

/* Join the extent at index `i` with neighbours in the same state. */
static void
join_around(struct fz_extents *ex, size_t i)
{
	struct fz_extent *e = ex->list;

	if (i + 1 < ex->n && e[i].state == e[i + 1].state) {
		e[i].len += e[i + 1].len;
		remove_at(ex, i + 1);
	}
	if (i > 0 && e[i - 1].state == e[i].state) {
		e[i - 1].len += e[i].len;
		remove_at(ex, i);
	}
}

static uint64_t
round_up(const struct fz_extents *ex, uint64_t len)
{
	if (len == 0)
		return ex->grain;
	return len > UINT64_MAX - ex->grain
		   ? 0
		   : (len + ex->grain - 1) / ex->grain * ex->grain;
}

/* Bytes of adjacent free extents from `i` on; counts up to `enough`. */
static uint64_t
free_from(const struct fz_extents *ex, size_t i, uint64_t enough)
{
	uint64_t len = 0;

	for (; i < ex->n && len < enough; i++) {
		if (ex->list[i].state == FZ_EXTENT_USED)
			break;
		len += ex->list[i].len;
	}
	return len;
}

static size_t
choose(const struct fz_extents *ex, uint64_t len)
{
	const struct fz_extent *e = ex->list;
	size_t i, best = ex->n;

	for (i = 0; ex->warm >= len && i < ex->n; i++)
		if (e[i].state == FZ_EXTENT_WARM && e[i].len >= len &&
		    (best == ex->n || e[i].len < e[best].len))
			best = i;
	for (i = 0; best == ex->n && i < ex->n; i++)
		if (e[i].state != FZ_EXTENT_USED &&
		    free_from(ex, i, len) >= len)
			return i;
	return best;
}

/*
 * Remove `len` bytes from the free extents from `i` on, which are long enough.
 * Returns whether some of these bytes were cold.
 */
static bool
cut_off(struct fz_extents *ex, size_t i, uint64_t len)
{
	bool cold = false;

	while (len > 0) {
		struct fz_extent *e = ex->list + i;
		uint64_t part = e->len < len ? e->len : len;

		if (e->state == FZ_EXTENT_WARM)
			ex->warm -= part;
		else
			cold = true;
		len -= part;
		e->at += part;
		e->len -= part;
		if (e->len == 0)
			remove_at(ex, i);
	}
	return cold;
}

int
fz_extent_take(struct fz_extents *ex, uint64_t len, uint64_t *at, bool *cold)
{
	size_t i;

	len = round_up(ex, len);
	if (len == 0 || make_room(ex) == -1)
		return -1;
	i = choose(ex, len);
	if (i == ex->n)
		return -1;
	*at = ex->list[i].at;
	*cold = cut_off(ex, i, len);
	insert(ex, i, (struct fz_extent){ *at, len, FZ_EXTENT_USED });
	ex->used += len;
	return 0;
}

static size_t
search(const struct fz_extents *ex, uint64_t at)
{
	size_t low = 0, high = ex->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ex->list[mid].at < at)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < ex->n && ex->list[low].at == at &&
	    ex->list[low].state == FZ_EXTENT_USED)
		return low;
	return ex->n;
}

const struct fz_extent *
fz_extent_find(const struct fz_extents *ex, uint64_t at)
{
	size_t i = search(ex, at);

	return i == ex->n ? NULL : ex->list + i;
}

int
fz_extent_extend(struct fz_extents *ex, uint64_t at, uint64_t len, bool *cold)
{
	size_t i = search(ex, at);
	uint64_t more;

	len = round_up(ex, len);
	*cold = false;
	if (i == ex->n || len == 0)
		return -1;
	if (len <= ex->list[i].len)
		return 0;
	more = len - ex->list[i].len;
	if (free_from(ex, i + 1, more) < more)
		return -1;
	*cold = cut_off(ex, i + 1, more);
	ex->list[i].len = len;
	ex->used += more;
	return 0;
}

int
fz_extent_shrink(
    struct fz_extents *ex, uint64_t at, uint64_t len, enum fz_extent_state tail)
{
	size_t i = search(ex, at);
	uint64_t less;

	len = round_up(ex, len);
	if (i == ex->n || len == 0 || make_room(ex) == -1)
		return -1;
	if (len >= ex->list[i].len)
		return 0;
	less = ex->list[i].len - len;
	ex->list[i].len = len;
	insert(ex, i + 1, (struct fz_extent){ at + len, less, tail });
	ex->used -= less;
	if (tail == FZ_EXTENT_WARM)
		ex->warm += less;
	join_around(ex, i + 1);
	return 0;
}

uint64_t
fz_extent_give(struct fz_extents *ex, uint64_t at, enum fz_extent_state state)
{
	size_t i = search(ex, at);
	uint64_t len;

	if (i == ex->n)
		return 0;
	len = ex->list[i].len;
	ex->list[i].state = state;
	ex->used -= len;
	if (state == FZ_EXTENT_WARM)
		ex->warm += len;
	join_around(ex, i);
	return len;
}

uint64_t
fz_extent_cool(struct fz_extents *ex, uint64_t len, uint64_t *at)
{
	struct fz_extent *e;
	size_t i = ex->n;

	while (i > 0 && ex->list[i - 1].state != FZ_EXTENT_WARM)
		i--;
	if (i-- == 0)
		return 0;
	e = ex->list + i;
	len = round_up(ex, len);
	/*
	 * Without memory for one more element, the whole extent becomes cold.
	 */
	if (len == 0 || len >= e->len || make_room(ex) == -1) {
		len = ex->list[i].len;
		*at = ex->list[i].at;
		ex->list[i].state = FZ_EXTENT_COLD;
	} else {
		e = ex->list + i;
		e->len -= len;
		*at = e->at + e->len;
		insert(ex, ++i, (struct fz_extent){ *at, len, FZ_EXTENT_COLD });
	}
	ex->warm -= len;
	join_around(ex, i);
	return len;
}
