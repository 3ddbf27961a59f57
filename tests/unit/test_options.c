/* SPDX-License-Identifier: MIT */
/* The mount options. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/options.h"
#include "fuse/fuse.h"

#define LAYERS "lowerdir=/l,upperdir=/u,workdir=/w,"

/* Parses and checks; -errno, with the reason in @why. */
static int parse(struct options *options, const char *text, bool lenient, struct strbuf *why)
{
	int r;

	options_init(options);
	options->lenient = lenient;
	r = options_parse(options, text, why);
	return r < 0 ? r : options_check(options, why);
}

static void assert_refused(const char *text, const char *reason)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct options options;

	assert_int_equal(parse(&options, text, false, &why), -EINVAL);
	assert_non_null(why.data);
	if (!strstr(why.data, reason))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, why.data, reason);
	assert_null(strchr(why.data, '\n'));
	options_deinit(&options);
}

static void accept(struct options *options, const char *text)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;

	if (parse(options, text, false, &why) != 0)
		fail_msg("%s: %s", text, why.data);
}

static void test_defaults(void **state)
{
	struct options options;
	struct core_config config;

	accept(&options, "lowerdir=/a");
	config = options_core_config(&options);
	assert_int_equal(config.lowers.count, 1);
	assert_int_equal(config.redirect, CORE_REDIRECT_ON);
	assert_int_equal(config.fsync, CORE_FSYNC_AUTO);
	assert_int_equal(config.xattrs, CORE_XATTRS_AUTO);
	assert_true(config.metacopy);
	assert_int_equal(config.verity, CORE_VERITY_OFF);
	assert_false(config.layers_change);
	assert_false(config.watch);
	assert_int_equal(options.timeout.tv_sec, FUSE_VALID_FOREVER.tv_sec);
	options_deinit(&options);
}

static void test_paths(void **state)
{
	struct options options;

	accept(&options, "lowerdir=/a\\:b\\,c:/d::/e,upperdir=/u\\,v\\\\,workdir=/w");
	assert_int_equal(options.lowers.count, 3);
	assert_string_equal(options.lowers.items[0].path, "/a:b,c");
	assert_string_equal(options.lowers.items[1].path, "/d");
	assert_true(options.lowers.items[2].data_only);
	assert_string_equal(options.upperdir, "/u,v\\");
	options_deinit(&options);
}

static void test_layers_one_by_one(void **state)
{
	struct options options;

	accept(&options, "lowerdir+=/a:b,lowerdir+=/c\\,d,datadir+=/e\\x");
	assert_int_equal(options.lowers.count, 3);
	assert_string_equal(options.lowers.items[0].path, "/a:b");
	assert_string_equal(options.lowers.items[1].path, "/c,d");
	assert_string_equal(options.lowers.items[2].path, "/e\\x");
	assert_true(options.lowers.items[2].data_only);
	options_deinit(&options);
	assert_refused("datadir+=/a,lowerdir+=/b", "datadir+=");
	assert_refused("lowerdir=/a,lowerdir+=/b", "lowerdir=");
	assert_refused("lowerdir+=/a,lowerdir=/b", "lowerdir=");
	assert_refused("lowerdir+=", "path");
}

static void test_last_lowerdir_counts(void **state)
{
	struct options options;

	accept(&options, "lowerdir=/a:/b,lowerdir=/c");
	assert_int_equal(options.lowers.count, 1);
	assert_string_equal(options.lowers.items[0].path, "/c");
	options_deinit(&options);
	assert_refused("lowerdir=/a,lowerdir=", "lowerdir= is missing");
	assert_refused("lowerdir=/a:", "lowerdir");
}

static void test_commas(void **state)
{
	struct options options;

	accept(&options, ",," LAYERS ",,ro,,");
	assert_int_equal(options.mount_flags, MS_RDONLY);
	options_deinit(&options);
	accept(&options, LAYERS "context=\"a:b:s0:c1,c2\",nodev");
	assert_string_equal(options.security.data, ",context=\"a:b:s0:c1,c2\"");
	assert_int_equal(options.mount_flags, MS_NODEV);
	options_deinit(&options);
}

static void test_several_arguments(void **state)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct options options;

	options_init(&options);
	assert_int_equal(options_parse(&options, "lowerdir=/a", &why), 0);
	assert_int_equal(options_parse(&options, "ro,noexec", &why), 0);
	assert_int_equal(options_parse(&options, "rw", &why), 0);
	assert_int_equal(options_check(&options, &why), 0);
	assert_int_equal(options.mount_flags, MS_NOEXEC);
	options_deinit(&options);
}

static void test_words(void **state)
{
	static const struct {
		const char *text;
		enum core_redirect redirect;
		bool metacopy;
	} cases[] = {
		{ "redirect_dir=on", CORE_REDIRECT_ON, true },
		{ "redirect_dir=off", CORE_REDIRECT_FOLLOW, true },
		{ "redirect_dir=nofollow", CORE_REDIRECT_NOFOLLOW, true },
		{ "metacopy=on", CORE_REDIRECT_ON, true },
		{ "metacopy=off", CORE_REDIRECT_ON, false },
		{ "index=off,nfs_export=off,verity=off,uuid=null,xino=off", CORE_REDIRECT_ON,
		  true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[256] = LAYERS;
		struct core_config config;
		struct options options;

		strcat(text, cases[i].text);
		accept(&options, text);
		config = options_core_config(&options);
		assert_int_equal(config.redirect, cases[i].redirect);
		assert_int_equal(config.metacopy, cases[i].metacopy);
		options_deinit(&options);
	}
}

static void test_verity(void **state)
{
	struct options options;

	accept(&options, LAYERS "verity=on");
	assert_int_equal(options_core_config(&options).verity, CORE_VERITY_ON);
	options_deinit(&options);
	accept(&options, LAYERS "verity=on,verity=require");
	assert_int_equal(options_core_config(&options).verity, CORE_VERITY_REQUIRE);
	options_deinit(&options);
}

static void test_fsync(void **state)
{
	struct options options;

	accept(&options, LAYERS "volatile");
	assert_int_equal(options.fsync, CORE_FSYNC_VOLATILE);
	options_deinit(&options);
	accept(&options, LAYERS "volatile,fsync=strict");
	assert_int_equal(options.fsync, CORE_FSYNC_STRICT);
	options_deinit(&options);
	assert_refused(LAYERS "volatile=1", "volatile");
}

static void test_timeout(void **state)
{
	struct options options;

	accept(&options, LAYERS "timeout=0");
	assert_true(options.layers_change);
	assert_int_equal(options.timeout.tv_sec, 0);
	options_deinit(&options);
	accept(&options, LAYERS "timeout=1.5");
	assert_int_equal(options.timeout.tv_sec, 1);
	assert_int_equal(options.timeout.tv_nsec, 500000000);
	options_deinit(&options);
	accept(&options, LAYERS "timeout=1000000000");
	assert_false(options.layers_change);
	options_deinit(&options);
	assert_refused(LAYERS "timeout=-1", "timeout");
	assert_refused(LAYERS "timeout=nan", "timeout");
	assert_refused(LAYERS "timeout=", "timeout");
}

static void test_numbers(void **state)
{
	struct options options;

	accept(&options, LAYERS "threads=7,max_idle=3");
	assert_int_equal(options.max_threads, 7);
	assert_int_equal(options.max_idle, 3);
	options_deinit(&options);
	accept(&options, LAYERS "max_nodes=0");
	assert_int_equal(options.max_nodes, 0);
	options_deinit(&options);
	accept(&options, LAYERS "max_nodes=4000000000");
	assert_true(options.max_nodes == 4000000000);
	options_deinit(&options);
	assert_refused(LAYERS "max_nodes=5000000000", "0 to 4294967295");
	assert_refused(LAYERS "max_nodes=-1", "0 to 4294967295");
	assert_refused(LAYERS "threads=0", "1 to 4096");
	assert_refused(LAYERS "threads=-1", "1 to 4096");
	assert_refused(LAYERS "max_idle=99999999999999999999", "1 to 4096");
}

static void test_refused(void **state)
{
	static const char *const not_yet[] = { "writeback=1", "auto_unmount" };

	for (size_t i = 0; i < ARRAY_SIZE(not_yet); i++) {
		char text[256] = LAYERS;

		strcat(text, not_yet[i]);
		assert_refused(text, "not effective yet");
	}
	assert_refused(LAYERS "fsync=0", "fsync=volatile");
	assert_refused(LAYERS "uidmapping=0:1000:1", "owners");
	assert_refused(LAYERS "redirect_dir=maybe", "on, follow, nofollow, off");
	assert_refused(LAYERS "redirect_dir", "needs a value");
	assert_refused(LAYERS "userxattr=on", "takes no value");
}

static void test_conflicts(void **state)
{
	assert_refused("ro", "lowerdir= is missing");
	assert_refused("lowerdir=/l,upperdir=/u", "workdir=");
	assert_refused("lowerdir=/l,workdir=/w", "upperdir=");
	assert_refused(LAYERS "metacopy=on,redirect_dir=off", "redirect_dir=on");
	assert_refused(LAYERS "allow_root,allow_other", "allow_root");
}

static void test_suggestions(void **state)
{
	assert_refused("lowerdirs=/x", "'lowerdir'");
	assert_refused("upperdr=/x", "'upperdir'");
	assert_refused("redirectdir=on", "'redirect_dir'");
	assert_refused("noatme", "'noatime'");
	assert_refused("metcopy=on", "'metacopy'");
	assert_refused("qqqqzzzz", "unknown mount option 'qqqqzzzz'");
	assert_refused("=x", "unknown mount option");
}

static void test_ignored(void **state)
{
	struct options options;

	/* The warnings are not what this is about. */
	log_set_level(LOG_LEVEL_ERROR);
	accept(&options, LAYERS "x-systemd.automount,_netdev,noauto,comment=x,default_permissions,"
				"override_creds,clone_fd");
	options_deinit(&options);
}

static void test_lenient(void **state)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct options options;

	log_set_level(LOG_LEVEL_ERROR);
	assert_int_equal(parse(&options, LAYERS "index=on,qqq=1,noacl,fsync=0", true, &why), 0);
	options_deinit(&options);
	/* What would show files as someone else's is never passed over. */
	assert_int_equal(parse(&options, LAYERS "squash_to_root", true, &why), -EINVAL);
	options_deinit(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_layers_one_by_one),
		cmocka_unit_test(test_last_lowerdir_counts),
		cmocka_unit_test(test_commas),
		cmocka_unit_test(test_several_arguments),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_verity),
		cmocka_unit_test(test_fsync),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_suggestions),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_lenient),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
