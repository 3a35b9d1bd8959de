/* MAP_ANONYMOUS is no part of POSIX. */
#define _GNU_SOURCE
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "descriptors.h"
#include "os/loop.h"
#include "wire/blob.h"

static void
world_output(void *ctx, enum fz_stdio file, const char *bytes, size_t len)
{
	struct world *w = ctx;

	(void)file;
	if (len > sizeof(w->output) - 1 - w->noutput)
		len = sizeof(w->output) - 1 - w->noutput;
	memcpy(w->output + w->noutput, bytes, len);
	w->noutput += len;
	w->output[w->noutput] = '\0';
}

void
assert_no_children(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

int
world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	setenv("FZLUA_JOBS", "1", 1); /* no polling, so the same events */
	w->nfds = count_fds();
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(w->shared != MAP_FAILED);
	assert_int_equal(fz_engine_init(&w->engine, world_output, w, NULL), 0);
	*state = w;
	return 0;
}

int
world_teardown(void **state)
{
	struct world *w = *state;

	fz_engine_fini(&w->engine);
	munmap(w->shared, sizeof(*w->shared));
	assert_int_equal(count_fds(), w->nfds);
	assert_no_children();
	free(w);
	return 0;
}

bool
turn_until(struct world *w, int64_t until_ns)
{
	if (fz_clock_ns() >= until_ns)
		return false;
	assert_true(fz_loop_turn(w->engine.loop, until_ns, NULL) >= 0);
	return true;
}

int64_t
in_ms(int64_t ms)
{
	return fz_clock_ns() + ms * FZ_CLOCK_MS;
}

void
world_spare_valgrind(struct world *w)
{
	if (on_valgrind())
		w->engine.arena_tried = true;
}

void
wait_for_count(struct world *w, const _Atomic int *count, int n)
{
	int64_t until = in_ms(PATIENCE_MS);

	while (atomic_load(count) < n) {
		assert_true(fz_clock_ns() < until);
		fz_loop_turn(w->engine.loop, in_ms(1), NULL);
	}
}

void
wait_for_calls(struct world *w, enum job func, int n)
{
	wait_for_count(w, &w->shared->calls[func], n);
}

void
wait_for_sleep(struct world *w, int n)
{
	wait_for_count(w, &w->shared->sleeping, n);
}

void
pass_seconds(int64_t n)
{
	fz_clock_skip(-n * FZ_CLOCK_SECOND);
}

struct fz_blob *
blob_of_number(uint64_t v)
{
	unsigned char bytes[8];

	fz_le64_store(bytes, v);
	return fz_blob_new(bytes, sizeof(bytes), NULL);
}

struct fz_blob *
blob_of_bytes(size_t len)
{
	unsigned char *bytes = malloc(len);
	struct fz_blob *blob;

	memset(bytes, 'x', len);
	blob = fz_blob_new(bytes, len, NULL);
	free(bytes);
	return blob;
}

uint64_t
number_of_blob(struct world *w, struct fz_blob *blob)
{
	const void *at = fz_blob_map(blob, w->engine.arena, NULL);
	uint64_t v;

	assert_non_null(at);
	assert_int_equal(blob->len, 8);
	v = fz_le64_load(at);
	fz_blob_unmap(blob, w->engine.arena, at);
	return v;
}
