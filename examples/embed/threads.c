/*
 * threads.c - eight threads, each with an instance of its own, beside threads
 * that keep the C library busy.
 *
 *   cc threads.c $(pkg-config --cflags --libs fzlua) -o threads
 *   ./threads 250     # pools that each instance starts; each has one worker
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fzlua.h>
#include <lauxlib.h>

enum { NINSTANCES = 8, NBUSY = 3 };

static const char code[] =
    "local pools, number = ...\n"
    "local function work(n) return n * 2 end\n"
    "for i = 1, pools do\n"
    "  local pool <close> = fz.pool(1)\n"
    "  assert(pool:apply(work, i + number) == 2 * (i + number))\n"
    "end\n";

static atomic_int ends;
static atomic_int nfailed;
static int npools;

static int
run(lua_State *L, int number)
{
	if (luaL_loadstring(L, code) != LUA_OK)
		return FZLUA_ERROR;
	lua_pushinteger(L, npools);
	lua_pushinteger(L, number);
	return fzlua_call(L, 2, 0);
}

static void *
use_instance(void *number)
{
	lua_State *L;
	int status = fzlua_new(&L, NULL);

	if (status == FZLUA_OK)
		status = run(L, (int)(size_t)number);
	if (status != FZLUA_OK) {
		nfailed++;
		fprintf(stderr, "threads: %s\n",
		    L != NULL ? luaL_tolstring(L, -1, NULL) : "no memory");
	}
	fzlua_close(L);
	return NULL;
}

static void *
hammer_malloc(void *unused)
{
	(void)unused;
	for (size_t i = 1; !ends; i = i * 5 % 65521) {
		char *bytes = malloc(i);

		if (bytes != NULL)
			memset(bytes, 1, i);
		free(bytes);
	}
	return NULL;
}

static void *
hammer_stdio(void *unused)
{
	FILE *f = fopen("/dev/null", "w");

	(void)unused;
	while (f != NULL && !ends)
		fprintf(f, "%d %s\n", 1, "line");
	if (f != NULL)
		fclose(f);
	return NULL;
}

static void *
hammer_names(void *unused)
{
	struct addrinfo *found;

	(void)unused;
	while (!ends) {
		if (getaddrinfo("localhost", "80", NULL, &found) == 0)
			freeaddrinfo(found);
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	static void *(*const busy[NBUSY])(
	    void *) = { hammer_malloc, hammer_stdio, hammer_names };
	pthread_t threads[NINSTANCES], others[NBUSY];

	npools = argc > 1 ? atoi(argv[1]) : 20;
	for (int i = 0; i < NBUSY; i++)
		pthread_create(&others[i], NULL, busy[i], NULL);
	for (size_t i = 0; i < NINSTANCES; i++)
		pthread_create(&threads[i], NULL, use_instance, (void *)i);
	for (int i = 0; i < NINSTANCES; i++)
		pthread_join(threads[i], NULL);
	ends = 1;
	for (int i = 0; i < NBUSY; i++)
		pthread_join(others[i], NULL);
	if (nfailed == 0)
		printf("%d workers in %d threads\n", NINSTANCES * npools,
		    NINSTANCES);
	return nfailed != 0;
}
