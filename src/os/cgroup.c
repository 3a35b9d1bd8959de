/* strtok_r is not in C11. */
#define _GNU_SOURCE
#include "os/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/fd.h"

enum { PATH_LEN = 1024 };

/*
 * One mount of a cgroup hierarchy. `root` is the group that the mount shows: in
 * a container without a cgroup namespace that group lies below the root.
 */
struct mount {
	bool v2;
	char root[PATH_LEN];
	char point[PATH_LEN];
};

/*
 * Whether a list like "rw,cpu", which ends at a character of `ends`, has
 * `name`.
 */
static bool
lists(const char *list, const char *ends, const char *name)
{
	size_t len = strlen(name);

	for (;;) {
		size_t n = strcspn(list, ends);
		size_t word = strcspn(list, ",");

		if (word > n)
			word = n;
		if (word == len && strncmp(list, name, len) == 0)
			return true;
		if (word == n)
			return false;
		list += word + 1;
	}
}

/* Parse "36 35 98:0 /root /point rw,.. shared:1 - type source options". */
static bool
parse_mount(const char *line, const char *controller, struct mount *mount)
{
	const char *rest = strstr(line, " - ");
	char type[32], source[PATH_LEN], super[PATH_LEN];

	if (rest == NULL ||
	    sscanf(rest, " - %31s %1023s %1023s", type, source, super) != 3 ||
	    sscanf(line, "%*s %*s %*s %1023s %1023s", mount->root,
		mount->point) != 2)
		return false;
	mount->v2 = strcmp(type, "cgroup2") == 0;
	return mount->v2 ||
	       (strcmp(type, "cgroup") == 0 && lists(super, "\n", controller));
}

/* The group of this process, from lines "0::/a" or "4:cpu,cpuacct:/a". */
static bool
find_group(const char *groups, bool v2, const char *controller, char *group,
    size_t len)
{
	const char *line, *names, *path;

	for (line = groups; *line != '\0'; line += strcspn(line, "\n")) {
		line += *line == '\n';
		names = line + strcspn(line, ":\n");
		path = *names == ':' ? names + 1 + strcspn(names + 1, ":\n")
				     : names;
		if (*path != ':')
			continue;
		if (v2 ? path != names + 1 : !lists(names + 1, ":", controller))
			continue;
		path++;
		snprintf(group, len, "%.*s", (int)strcspn(path, "\n"), path);
		return true;
	}
	return false;
}

/* The path of a group relative to the group that the mount shows. */
static const char *
path_below(const struct mount *mount, const char *group)
{
	size_t root = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);

	if (strcmp(group, "/") == 0 || strncmp(group, mount->root, root) != 0 ||
	    (group[root] != '/' && group[root] != '\0'))
		return "";
	return group + root;
}

/* Visit a group, and each group above it up to the one that the mount shows. */
static void
visit_up(const struct mount *mount, const char *group, fz_cgroup_visit visit,
    void *ctx)
{
	size_t top = strlen(mount->point);
	char dir[2 * PATH_LEN], *slash;

	snprintf(
	    dir, sizeof(dir), "%s%s", mount->point, path_below(mount, group));
	for (;;) {
		visit(ctx, dir, mount->v2);
		slash = strrchr(dir, '/');
		if (slash == NULL || (size_t)(slash - dir) < top)
			return;
		*slash = '\0';
	}
}

void
fz_cgroup_each(const char *controller, fz_cgroup_visit visit, void *ctx)
{
	char *groups = fz_fd_read_text("/proc/self/cgroup");
	char *mounts = fz_fd_read_text("/proc/self/mountinfo");
	char group[PATH_LEN], *save = NULL;
	struct mount mount;

	if (groups == NULL || mounts == NULL)
		goto out;
	for (char *line = strtok_r(mounts, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (parse_mount(line, controller, &mount) &&
		    find_group(
			groups, mount.v2, controller, group, sizeof(group)))
			visit_up(&mount, group, visit, ctx);
	}
out:
	free(groups);
	free(mounts);
}
