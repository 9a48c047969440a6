/* sudo for the mini guest: the account `debian` (group `sudo`, gid 27) may become root without a password.
 * Understands the options scripts use (-n -E -H -S -i -s -u USER, --) and VAR=value before the command. */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUDO_GID = 27 };

static int allowed(void) {
    gid_t groups[64];
    int count = getgroups(64, groups);
    if (getuid() == 0 || getgid() == SUDO_GID) return 1;
    for (int i = 0; i < count; i++)
        if (groups[i] == SUDO_GID) return 1;
    return 0;
}

static int fail(const char *what) {
    fprintf(stderr, "sudo: ");
    perror(what);
    return 1;
}

int main(int argc, char **argv) {
    const char *user = "root";
    char *login_shell[] = {"/bin/sh", "-l", NULL};
    int shell = 0, at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (!strcmp(argv[at], "--")) { at++; break; }
        if (!strcmp(argv[at], "-u") && at + 1 < argc) { user = argv[++at]; continue; }
        if (strspn(argv[at] + 1, "nEHSis") != strlen(argv[at] + 1)) {
            fprintf(stderr, "sudo: unknown option %s\n", argv[at]);
            return 1;
        }
        if (strpbrk(argv[at], "is")) shell = 1;
    }
    if (!allowed()) { fprintf(stderr, "sudo: not a member of group sudo\n"); return 1; }
    struct passwd *account = getpwnam(user);
    if (!account) { fprintf(stderr, "sudo: no user %s\n", user); return 1; }
    if (initgroups(user, account->pw_gid)) return fail("initgroups");
    if (setgid(account->pw_gid)) return fail("setgid");
    if (setuid(account->pw_uid)) return fail("setuid");
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", account->pw_dir, 1);
    setenv("USER", user, 1);
    setenv("LOGNAME", user, 1);
    for (; at < argc && strchr(argv[at], '=') && argv[at][0] != '/'; at++) putenv(argv[at]);
    if (at >= argc) {
        if (!shell) { fprintf(stderr, "usage: sudo [-nEHSis] [-u USER] COMMAND\n"); return 1; }
        execv(login_shell[0], login_shell);
        return fail(login_shell[0]);
    }
    execvp(argv[at], argv + at);
    return fail(argv[at]);
}
