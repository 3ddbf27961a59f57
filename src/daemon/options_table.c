/* SPDX-License-Identifier: MIT */
/* Every option there is, the ones that are refused included. */
#include <limits.h>
#include <stddef.h>
#include <sys/mount.h>

#include "daemon/options_table.h"

#define OPTION_THREADS_MAX 4096
#define NOT_YET "not effective yet"

static const struct option_choice redirect_choices[] = {
	{ "on", CORE_REDIRECT_ON, NULL },
	{ "follow", CORE_REDIRECT_FOLLOW, NULL },
	{ "nofollow", CORE_REDIRECT_NOFOLLOW, NULL },
	/* As the kernel has it unless its module was told otherwise (redirect_always_follow). */
	{ "off", CORE_REDIRECT_FOLLOW, NULL },
	{ 0 },
};

static const struct option_choice metacopy_choices[] = {
	{ "on", true, NULL },
	{ "off", false, NULL },
	{ 0 },
};

static const struct option_choice compat_choices[] = {
	{ "none", OPTIONS_COMPAT_NONE, NULL },
	{ "kernel", OPTIONS_COMPAT_KERNEL, NULL },
	{ 0 },
};

static const struct option_choice index_choices[] = {
	{ "on", CORE_INDEX_ON, NULL },
	{ "off", CORE_INDEX_OFF, NULL },
	{ 0 },
};

static const struct option_choice fsync_choices[] = {
	{ "auto", CORE_FSYNC_AUTO, NULL },
	{ "strict", CORE_FSYNC_STRICT, NULL },
	{ "volatile", CORE_FSYNC_VOLATILE, NULL },
	{ "1", CORE_FSYNC_AUTO, "it is spelled fsync=auto here, and the default" },
	{ "0", CORE_FSYNC_VOLATILE, "it is spelled fsync=volatile here" },
	{ 0 },
};

static const struct option_choice nfs_export_choices[] = {
	{ "on", true, NULL },
	{ "off", false, NULL },
	{ 0 },
};

static const struct option_choice verity_choices[] = {
	{ "off", CORE_VERITY_OFF, NULL },
	{ "on", CORE_VERITY_ON, NULL },
	{ "require", CORE_VERITY_REQUIRE, NULL },
	{ 0 },
};

static const struct option_choice uuid_choices[] = {
	{ "off", 0, NULL },
	{ "null", 0, NULL },
	{ "auto", 0, NULL },
	{ "on", 0, "FUSE gives a file system no UUID (f_fsid)" },
	{ 0 },
};

/* Options whose effect is given once and for all; the value chosen is not kept. */
static const struct option_choice xino_choices[] = {
	{ "on", 0, NULL },
	{ "off", 0, NULL },
	{ "auto", 0, NULL },
	{ 0 },
};

static const struct option_choice data_choices[] = {
	{ "auto", OPTIONS_DATA_AUTO, NULL },
	{ "served", OPTIONS_DATA_SERVED, NULL },
	{ "passthrough", OPTIONS_DATA_PASSTHROUGH, NULL },
	{ 0 },
};

static const struct option_choice uring_choices[] = {
	{ "auto", OPTIONS_URING_AUTO, NULL },
	{ "on", OPTIONS_URING_ON, NULL },
	{ "off", OPTIONS_URING_OFF, NULL },
	{ 0 },
};

static const struct option_choice threaded_choices[] = {
	{ "1", 0, NULL },
	{ "0", 0, "requests are always served in parallel" },
	{ 0 },
};

static const struct option_choice writeback_choices[] = {
	{ "0", 0, NULL },
	{ "1", 0, NOT_YET },
	{ 0 },
};

#define FIELD(name) offsetof(struct options, name)

#define LAYER(option, value, function, help)                                          \
	{                                                                             \
		.name = option, .value_name = value, .text = help, .apply = function, \
		.argument = OPTION_VALUE, .is_listed = true                           \
	}
#define CHOICE(option, field, words, help)                                                      \
	{                                                                                       \
		.name = option, .text = help, .apply = option_choose, .argument = OPTION_VALUE, \
		.choices = words, .offset = FIELD(field), .is_listed = true                     \
	}
#define NUMBER(option, field, low, high, help)                                                    \
	{                                                                                         \
		.name = option, .value_name = "N", .text = help, .apply = option_number,          \
		.argument = OPTION_VALUE, .offset = FIELD(field), .least = (low), .most = (high), \
		.is_listed = true                                                                 \
	}
/* Words of which some can be had, and change nothing. */
#define GIVEN(option, words, help)                                                               \
	{                                                                                        \
		.name = option, .text = help, .apply = option_nothing, .argument = OPTION_VALUE, \
		.choices = words, .is_listed = true                                              \
	}
#define FLAG(option, field, help)                                                          \
	{                                                                                  \
		.name = option, .text = help, .apply = option_set, .offset = FIELD(field), \
		.is_listed = true                                                          \
	}
#define MOUNT_FLAG(option, bits_set, bits_clear, help)                                       \
	{                                                                                    \
		.name = option, .text = help, .apply = option_mount_flag, .set = (bits_set), \
		.clear = (bits_clear), .is_listed = true                                     \
	}
#define IGNORED(option, reason)                                         \
	{                                                               \
		.name = option, .text = reason, .apply = option_ignore, \
		.argument = OPTION_ANY_VALUE                            \
	}
/* The same, where mount(8) is used to passing it on: no warning. */
#define PASSED(option, reason)                                                                     \
	{                                                                                          \
		.name = option, .text = reason, .apply = option_pass, .argument = OPTION_ANY_VALUE \
	}
#define REFUSED(option, function, reason)                                                       \
	{                                                                                       \
		.name = option, .text = reason, .apply = function, .argument = OPTION_ANY_VALUE \
	}
#define SECURITY(option)                                                                      \
	{                                                                                     \
		.name = option, .value_name = "LABEL", .text = "as in mount(8), for SELinux", \
		.apply = option_security, .argument = OPTION_VALUE, .is_listed = true         \
	}

static const char of_mount[] = "for mount(8), not for the file system";
static const char no_mapping[] = "owners are shown and stored as they are";

const struct option_spec option_specs[] = {
	LAYER("lowerdir", "DIR[:DIR]...[::DIR]...", option_lowerdir,
	      "lower layers, the topmost first; data-only ones after '::'"),
	LAYER("lowerdir+", "DIR", option_lowerdir_add, "one more lower layer, below the others"),
	LAYER("datadir+", "DIR", option_datadir_add, "one more data-only layer"),
	{ .name = "upperdir",
	  .value_name = "DIR",
	  .text = "the layer that takes every change",
	  .apply = option_path,
	  .argument = OPTION_VALUE,
	  .offset = FIELD(upperdir),
	  .is_listed = true },
	{ .name = "workdir",
	  .value_name = "DIR",
	  .text = "a directory on the upper's mount, where changes are prepared",
	  .apply = option_path,
	  .argument = OPTION_VALUE,
	  .offset = FIELD(workdir),
	  .is_listed = true },

	CHOICE("redirect_dir", redirect, redirect_choices, "rename directories that a lower holds"),
	CHOICE("metacopy", metacopy, metacopy_choices,
	       "changes of metadata copy no data; off: meeting such files is EPERM"),
	FLAG("userxattr", userxattr, "private attributes in user.overlay."),
	GIVEN("xino", xino_choices, "inode numbers are constant in any case"),
	CHOICE("index", index, index_choices, "hard links of a lower stay hard links"),
	CHOICE("compat", compat, compat_choices, "write only what a kernel mount takes by default"),
	CHOICE("nfs_export", nfs_export, nfs_export_choices,
	       "file handles last for any number of objects"),
	CHOICE("verity", verity, verity_choices,
	       "check data of metacopy files against its fs-verity digest"),
	GIVEN("uuid", uuid_choices, "without effect"),
	FLAG("cross_mounts", cross_mounts, "lower layers include what is mounted below them"),
	FLAG("static_nlink", static_nlink, "every directory has a link count of 1"),

	CHOICE("fsync", fsync, fsync_choices, "what is on disk before it is published"),
	{ .name = "volatile",
	  .text = "the same as fsync=volatile",
	  .apply = option_choose,
	  .choices = fsync_choices,
	  .offset = FIELD(fsync),
	  .is_listed = true },

	MOUNT_FLAG("ro", MS_RDONLY, 0, "read-only"),
	MOUNT_FLAG("rw", 0, MS_RDONLY, "not read-only"),
	MOUNT_FLAG("nosuid", MS_NOSUID, 0, "no set-id programs"),
	MOUNT_FLAG("suid", 0, MS_NOSUID, "the default for root"),
	MOUNT_FLAG("nodev", MS_NODEV, 0, "no devices"),
	MOUNT_FLAG("dev", 0, MS_NODEV, "the default for root"),
	MOUNT_FLAG("noexec", MS_NOEXEC, 0, "no programs"),
	MOUNT_FLAG("exec", 0, MS_NOEXEC, "the default"),
	MOUNT_FLAG("noatime", MS_NOATIME, 0, "reading leaves access times alone"),
	MOUNT_FLAG("atime", 0, MS_NOATIME, "the default"),
	MOUNT_FLAG("nodiratime", MS_NODIRATIME, 0, "listing leaves access times alone"),
	MOUNT_FLAG("diratime", 0, MS_NODIRATIME, "the default"),
	MOUNT_FLAG("relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME, "the default"),
	MOUNT_FLAG("strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME,
		   "every read changes access times"),
	FLAG("allow_other", allow_other, "for all users, not only the one who mounts"),
	FLAG("allow_root", allow_root, "for the one who mounts and root"),
	{ .name = "default_permissions",
	  .text = "always so",
	  .apply = option_nothing,
	  .is_listed = true },
	SECURITY("context"),
	SECURITY("fscontext"),
	SECURITY("defcontext"),
	SECURITY("rootcontext"),

	{ .name = "timeout",
	  .value_name = "SECONDS",
	  .text = "how long the kernel may rely on what it was told, for layers that change",
	  .apply = option_timeout,
	  .argument = OPTION_VALUE,
	  .is_listed = true },
	FLAG("watch", watch, "see what others change in the layers, within a moment"),
	CHOICE("data", data, data_choices, "which way the data of files goes"),
	CHOICE("io_uring", io_uring, uring_choices, "requests come over io_uring"),
	NUMBER("threads", max_threads, 1, OPTION_THREADS_MAX,
	       "requests that are worked on at once"),
	NUMBER("max_idle", max_idle, 1, OPTION_THREADS_MAX, "threads that wait for requests"),
	NUMBER("max_idle_threads", max_idle, 1, OPTION_THREADS_MAX, "the same as max_idle"),
	NUMBER("max_nodes", max_nodes, 0, UINT_MAX, "objects that are kept in mind; 0: any number"),
	{ .name = "fsname",
	  .value_name = "NAME",
	  .text = "what the mount table shows as device",
	  .apply = option_string,
	  .argument = OPTION_VALUE,
	  .offset = FIELD(fsname),
	  .is_listed = true },
	{ .name = "subtype",
	  .value_name = "NAME",
	  .text = "what the mount table shows after \"fuse.\"",
	  .apply = option_string,
	  .argument = OPTION_VALUE,
	  .offset = FIELD(subtype),
	  .is_listed = true },

	/* Whose rights the kernel's overlayfs acts with. */
	IGNORED("override_creds", "the daemon has rights of its own"),
	IGNORED("nooverride_creds", "the daemon has rights of its own"),
	/* Of fuse-overlayfs. */
	{ .name = "threaded",
	  .apply = option_nothing,
	  .argument = OPTION_VALUE,
	  .choices = threaded_choices },
	{ .name = "writeback",
	  .apply = option_nothing,
	  .argument = OPTION_VALUE,
	  .choices = writeback_choices },
	IGNORED("clone_fd", "each thread has a device of its own anyway"),
	REFUSED("fast_ino", option_refuse, "inode numbers are constant in any case"),
	REFUSED("noacl", option_refuse, "ACLs are always in effect"),
	REFUSED("noxattrs", option_refuse, NOT_YET),
	REFUSED("plugins", option_refuse_always, "there are none"),
	REFUSED("ino32_t", option_refuse_always, "inode numbers have 64 bits"),
	REFUSED("uidmapping", option_refuse_always, no_mapping),
	REFUSED("gidmapping", option_refuse_always, no_mapping),
	REFUSED("squash_to_root", option_refuse_always, no_mapping),
	REFUSED("squash_to_uid", option_refuse_always, no_mapping),
	REFUSED("squash_to_gid", option_refuse_always, no_mapping),
	REFUSED("xattr_permissions", option_refuse_always, no_mapping),
	/* Of libfuse. */
	REFUSED("auto_unmount", option_refuse, NOT_YET),
	REFUSED("max_read", option_refuse, "requests have the largest size the kernel allows"),
	/* Of fstab(5) and systemd.mount(5). */
	PASSED("defaults", of_mount),
	PASSED("auto", of_mount),
	PASSED("noauto", of_mount),
	PASSED("user", of_mount),
	PASSED("nouser", of_mount),
	PASSED("users", of_mount),
	PASSED("owner", of_mount),
	PASSED("group", of_mount),
	PASSED("nofail", of_mount),
	IGNORED("_netdev", of_mount),
	IGNORED("comment", of_mount),
	IGNORED("x-*", of_mount),
	IGNORED("X-*", of_mount),
	{ 0 },
};
