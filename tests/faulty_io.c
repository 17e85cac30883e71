/* A library that makes one call fail: the N-th write, fsync, rename or read of a file below a folder.
 *
 * FAULT_CALL names the call, FAULT_FOLDER the folder, FAULT_AT counts from 1, FAULT_ERRNO is the error. All later calls
 * of this kind fail too. With FAULT_AT=0 nothing fails, and the number of calls is written to FAULT_COUNT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int calls;

static int below(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    return folder && strncmp(path, folder, strlen(folder)) == 0;
}

static int of_folder(int handle) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return below(path);
}

static int fails(const char *call, int concerned) {
    const char *wanted = getenv("FAULT_CALL"), *at = getenv("FAULT_AT"), *count = getenv("FAULT_COUNT");
    if (!wanted || strcmp(wanted, call) || !concerned) return 0;
    int number = __sync_add_and_fetch(&calls, 1);
    if (count && *count) {
        char text[16];
        int handle = open(count, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ssize_t (*plain)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        if (handle >= 0) plain(handle, text, snprintf(text, sizeof text, "%d", number)), close(handle);
    }
    if (!at || !atoi(at) || number < atoi(at)) return 0;
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int handle, const void *data, size_t size) {
    REAL(write);
    return fails("write", of_folder(handle)) ? -1 : real(handle, data, size);
}
ssize_t writev(int handle, const struct iovec *parts, int count) {
    REAL(writev);
    return fails("write", of_folder(handle)) ? -1 : real(handle, parts, count);
}
ssize_t pwrite(int handle, const void *data, size_t size, off_t place) {
    REAL(pwrite);
    return fails("write", of_folder(handle)) ? -1 : real(handle, data, size, place);
}
ssize_t pwrite64(int handle, const void *data, size_t size, off_t place) {
    REAL(pwrite64);
    return fails("write", of_folder(handle)) ? -1 : real(handle, data, size, place);
}
int ftruncate(int handle, off_t size) {
    REAL(ftruncate);
    return fails("write", of_folder(handle)) ? -1 : real(handle, size);
}
int ftruncate64(int handle, off_t size) {
    REAL(ftruncate64);
    return fails("write", of_folder(handle)) ? -1 : real(handle, size);
}
ssize_t read(int handle, void *data, size_t size) {
    REAL(read);
    return fails("read", of_folder(handle)) ? -1 : real(handle, data, size);
}
ssize_t pread(int handle, void *data, size_t size, off_t place) {
    REAL(pread);
    return fails("read", of_folder(handle)) ? -1 : real(handle, data, size, place);
}
ssize_t pread64(int handle, void *data, size_t size, off_t place) {
    REAL(pread64);
    return fails("read", of_folder(handle)) ? -1 : real(handle, data, size, place);
}
int fsync(int handle) {
    REAL(fsync);
    return fails("fsync", of_folder(handle)) ? -1 : real(handle);
}
int fdatasync(int handle) {
    REAL(fdatasync);
    return fails("fsync", of_folder(handle)) ? -1 : real(handle);
}
int rename(const char *old, const char *new) {
    REAL(rename);
    char path[8192] = "";
    if (new[0] != '/' && getcwd(path, 4096)) strcat(path, "/");
    strncat(path, new, 4000);
    return fails("rename", below(path)) ? -1 : real(old, new);
}
