#include "cli/worker_command.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "bind/ltask.h"
#include "child/spawned_main.h"
#include "cli/restrict.h"
#include "cli/state.h"
#include "node/node_main.h"
#include "proc/proc.h"
#include "sched/slots.h"
#include "value/lerror.h"
#include "wire/account.h"
#include "wire/child_spawned.h"
#include "wire/child_stream.h"

/* Open the libraries that a script can use. Called protected. */
static int
open_libraries(lua_State *L)
{
	luaL_checkversion(L);
	lua_gc(L, LUA_GCGEN, 0, 0);
	luaL_openlibs(L);
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "fzlua.core");
	lua_pushliteral(L, "fzlua"); /* fz.run_scripts() runs this program */
	lua_setfield(L, -2, "command");
	lua_pop(L, 2);
	fz_ltask_follow_coroutines(L);
	/* Load fzlua.error, because this registers the class of errors. */
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.error");
	lua_call(L, 1, 0);
	return 0;
}

static int
refuse(int link, const struct fz_err *err)
{
	fz_child_stream_refuse(link, err->kind, err->text);
	return EXIT_FAILURE;
}

/* Open the libraries. Returns 0, or -1 after the reason was sent. */
static int
open_state(lua_State *L, int link)
{
	struct fz_err err = { 0 };

	if (L == NULL)
		fz_err_nomem(&err, "a worker");
	else
		lua_pushcfunction(L, open_libraries);
	if (L != NULL && lua_pcall(L, 0, 0, 0) == LUA_OK)
		return 0;
	if (L != NULL)
		fz_lerror_pop(L, &err);
	refuse(link, &err);
	return -1;
}

static int
serve(lua_State *L, int link, int memory, const struct fz_node_worker *node)
{
	if (open_state(L, link) != 0)
		return EXIT_FAILURE;
	return fz_spawned_main(L, link, memory, node);
}

/* Serve the parent, with a share of the slots of the parent. */
static int
serve_with_slots(lua_State *L, const struct fz_child_spawned *spawned)
{
	struct fz_lineage lineage[FZ_ACCOUNT_DEPTH];
	struct fz_slots *slots;
	struct fz_err err;
	unsigned n;
	int status;

	if (open_state(L, spawned->link) != 0)
		return EXIT_FAILURE;
	n = fz_account_lineage(spawned->account, lineage, FZ_ACCOUNT_DEPTH);
	slots = fz_slots_of_parent(fz_lloop_engine(L), (unsigned)spawned->slots,
	    spawned->pipe, n != 0 ? lineage : NULL, &err);
	if (slots == NULL)
		return refuse(spawned->link, &err);
	status = fz_spawned_main(L, spawned->link, spawned->memory, NULL);
	fz_slots_leave(slots);
	return status;
}

_Noreturn void
fz_worker_command_serve(char **argv)
{
	struct fz_child_spawned spawned;
	int status = EXIT_FAILURE;

	if (fz_child_spawned_enter(&spawned, argv) != 0)
		fz_proc_exit(status);
	if (spawned.slots != FZ_CHILD_SPAWNED_NO_SLOTS)
		status = serve_with_slots(fz_state_new(), &spawned);
	else
		status =
		    serve(fz_state_new(), spawned.link, spawned.memory, NULL);
	fz_proc_exit(status);
}

/* The words of the command line that starts a worker on a node. */
struct words {
	/* values of the options; NULL if an option is not given */
	const char *version, *allow;
	/* descriptor of the worker's end of a slot_line; -1: none */
	int slot;
};

/* Read the words. Returns false for another command line. */
static bool
read_words(struct words *words, int argc, char **argv)
{
	*words = (struct words){ .slot = -1 };
	if (argc < 2 || strcmp(argv[1], "--worker") != 0)
		return false;
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--allow") == 0 && i + 1 < argc)
			words->allow = argv[++i];
		else if (strcmp(argv[i], "--slot-line") == 0 && i + 1 < argc)
			words->slot = (int)strtol(argv[++i], NULL, 10);
		else if (argv[i][0] != '-' && words->version == NULL)
			words->version = argv[i];
		else
			return false;
	}
	return true;
}

/*
 * The version that the submitter asks for. If its key has a forced command,
 * sshd puts the submitter's command, `fzlua --worker VERSION`, into a variable.
 */
static const char *
asked_version(void)
{
	const char *asked = getenv("SSH_ORIGINAL_COMMAND");
	const char *word = asked != NULL ? strrchr(asked, ' ') : NULL;

	return word != NULL && word[1] != '-' ? word + 1 : NULL;
}

/*
 * Whether a submitter has started this process: it passes its version, even
 * through a forced command. Otherwise a user wants the machine to join.
 */
static bool
is_for_submitter(const struct words *words)
{
	return words->version != NULL || getenv("SSH_ORIGINAL_COMMAND") != NULL;
}

bool
fz_worker_command_is_on_node(int argc, char **argv)
{
	struct words words;

	return read_words(&words, argc, argv) && is_for_submitter(&words);
}

static int
serve_on_node(void *ctx, int link, const struct fz_node_worker *node)
{
	const struct words *words = ctx;
	lua_State *L = fz_state_new();
	struct fz_err err = { 0 };

	if (L == NULL || words->allow == NULL ||
	    fz_restrict(L, words->allow, &err) == 0)
		return serve(L, link, -1, node);
	fz_child_stream_refuse(link, err.kind, err.text);
	return EXIT_FAILURE;
}

int
fz_worker_command_serve_node(int argc, char **argv)
{
	struct words words;
	struct fz_node_opts opts = { .own = FZ_SPAWNED_IDENTITY,
		.serve = serve_on_node,
		.ctx = &words };

	read_words(&words, argc, argv);
	if (words.version == NULL && words.allow != NULL)
		words.version = asked_version();
	opts.wanted = words.version;
	opts.slot = words.slot;
	return fz_node_main(&opts);
}
