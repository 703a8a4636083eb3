// Fails the k-th allocation that the core or NumPy asks for, in the thread that says so.
#include <execinfo.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {
enum Function { of_malloc, of_calloc, of_realloc, of_aligned_alloc, of_posix_memalign, of_mmap, of_new };
struct Code {
    uintptr_t start, end;
} watched[2];                     // of the core, of NumPy
thread_local long left = -1;      // allocations until one fails
int nowhere, *failed = &nowhere;  // 16 * library + function

bool is_in(int library, const void* place) {
    const auto p = reinterpret_cast<uintptr_t>(place);
    return p >= watched[library].start && p < watched[library].end;
}

bool fails(Function function, void* caller) {
    if (left < 0 || (!is_in(0, caller) && !is_in(1, caller)) || left-- > 0) return false;
    int library = is_in(0, caller) ? 0 : 2;
    void* frames[64];
    for (int i = backtrace(frames, 64) - 1; i >= 0 && library == 2; --i) library = is_in(0, frames[i]) ? 1 : 2;
    *failed = 16 * library + function;
    return true;
}
}  // namespace

#define FAILS(function) fails(function, __builtin_return_address(0))

extern "C" {
void fail_after(long k) { left = k; }
void report_to(int* place) { failed = place; }
int watch(int i, const char* path) {
    struct Wanted {
        const char* path;
        Code* code;
    } wanted = {path, &watched[i]};
    return dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            auto* w = static_cast<Wanted*>(data);
            if (!std::strstr(info->dlpi_name, w->path)) return 0;
            for (int k = 0; k < info->dlpi_phnum; ++k)
                if (info->dlpi_phdr[k].p_type == PT_LOAD && info->dlpi_phdr[k].p_flags & PF_X) {
                    w->code->start = info->dlpi_addr + info->dlpi_phdr[k].p_vaddr;
                    w->code->end = w->code->start + info->dlpi_phdr[k].p_memsz;
                }
            return 1;
        },
        &wanted);
}

void* malloc(size_t n) { return FAILS(of_malloc) ? (errno = ENOMEM, nullptr) : __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return FAILS(of_calloc) ? (errno = ENOMEM, nullptr) : __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return FAILS(of_realloc) ? (errno = ENOMEM, nullptr) : __libc_realloc(p, n); }
void* aligned_alloc(size_t alignment, size_t n) {
    return FAILS(of_aligned_alloc) ? (errno = ENOMEM, nullptr) : __libc_memalign(alignment, n);
}
int posix_memalign(void** p, size_t alignment, size_t n) {
    return FAILS(of_posix_memalign) || !(*p = __libc_memalign(alignment, n)) ? ENOMEM : 0;
}
void* mmap64(void* p, size_t n, int protection, int flags, int file, off_t offset) {
    if (FAILS(of_mmap)) return errno = ENOMEM, MAP_FAILED;
    return reinterpret_cast<void*>(syscall(SYS_mmap, p, n, protection, flags, file, offset));
}
void* mmap(void* p, size_t n, int protection, int flags, int file, off_t offset) {
    if (FAILS(of_mmap)) return errno = ENOMEM, MAP_FAILED;
    return reinterpret_cast<void*>(syscall(SYS_mmap, p, n, protection, flags, file, offset));
}
}

static void* checked(void* p) { return p ? p : throw std::bad_alloc(); }
void* operator new(size_t n) { return checked(FAILS(of_new) ? nullptr : __libc_malloc(n)); }
void* operator new[](size_t n) { return checked(FAILS(of_new) ? nullptr : __libc_malloc(n)); }
void* operator new(size_t n, std::align_val_t alignment) {
    return checked(FAILS(of_new) ? nullptr : __libc_memalign(size_t(alignment), n));
}
void* operator new(size_t n, const std::nothrow_t&) noexcept { return FAILS(of_new) ? nullptr : __libc_malloc(n); }
void* operator new[](size_t n, const std::nothrow_t&) noexcept { return FAILS(of_new) ? nullptr : __libc_malloc(n); }
