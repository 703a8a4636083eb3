// memory.hpp: aligned buffers for tapes, packed weights, scratch and large results. Called by the bindings and
// arrays.hpp; knows nothing of arrays. Fresh pages cost more than many a kernel, so freed buffers are kept for the next
// call. Nothing here waits: a thread that finds the shelf in use allocates.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace rnnfast {

// Freed buffers, by capacity; data is null where a place is empty.
struct Shelf {
    static constexpr int places = 64;  // as many as the layers and operations of a training step free in turn
    static constexpr std::size_t most_bytes = std::size_t(1) << 30;
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    std::size_t bytes = 0;
    void* data[places] = {};
    std::size_t capacity[places] = {};
};
inline Shelf shelf;

class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(double bytes) {
        if (!(bytes < 0x1p62)) throw std::bad_alloc();
#if defined(__SANITIZE_ADDRESS__)  // to the byte, and from the heap, which knows what is freed
        const auto exact = static_cast<std::size_t>(bytes);
        if (exact == 0) return;
        if (posix_memalign(&data_, 64, exact)) data_ = nullptr;
        if (!data_) throw std::bad_alloc();
        capacity_ = exact;
        return;
#endif
        const std::size_t wanted = (static_cast<std::size_t>(bytes) + 4095) / 4096 * 4096;
        if (wanted == 0) return;
        if (take(wanted)) return;
        const std::size_t alignment = wanted >= large ? huge_page : 64;
        const std::size_t capacity = (wanted + alignment - 1) / alignment * alignment;
        data_ = capacity >= huge_page ? map(capacity) : std::aligned_alloc(alignment, capacity);
        if (!data_) throw std::bad_alloc();
        capacity_ = capacity;
    }
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() {
        if (data_ && !keep()) release(data_, capacity_);
    }

    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    std::size_t capacity() const { return capacity_; }

  private:
    static constexpr std::size_t huge_page = std::size_t(1) << 21, large = huge_page / 2;

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    // Pages of its own, huge ones where there are any: those of the heap may have been broken into small ones by
    // others.
    static void* map(std::size_t capacity) {
        void* const area =
            mmap(nullptr, capacity + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) return nullptr;
        const auto start = reinterpret_cast<std::uintptr_t>(area), aligned = (start + huge_page - 1) & ~(huge_page - 1);
        char* const data = reinterpret_cast<char*>(aligned);
        if (aligned > start) munmap(area, aligned - start);
        if (aligned < start + huge_page) munmap(data + capacity, start + huge_page - aligned);
        madvise(data, capacity, MADV_HUGEPAGE);
        return data;
    }
    static void release(void* data, std::size_t capacity) {
        if (capacity >= huge_page)
            munmap(data, capacity);
        else
            std::free(data);
    }
#else
    static void* map(std::size_t capacity) { return std::aligned_alloc(huge_page, capacity); }
    static void release(void* data, std::size_t) { std::free(data); }
#endif

    void swap(Buffer& other) {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
    }

    // The smallest kept buffer that is large enough and not wastefully large.
    bool take(std::size_t wanted) {
        if (shelf.busy.test_and_set(std::memory_order_acquire)) return false;
        const std::size_t most = 2 * wanted + (wanted >= large ? huge_page : 4 * 4096);
        int best = -1;
        for (int i = 0; i < Shelf::places; ++i)
            if (shelf.data[i] && shelf.capacity[i] >= wanted && shelf.capacity[i] <= most &&
                (best < 0 || shelf.capacity[i] < shelf.capacity[best]))
                best = i;
        if (best >= 0) {
            data_ = std::exchange(shelf.data[best], nullptr);
            capacity_ = shelf.capacity[best];
            shelf.bytes -= capacity_;
        }
        shelf.busy.clear(std::memory_order_release);
        return best >= 0;
    }

    bool keep() {
#if defined(__SANITIZE_ADDRESS__)
        return false;
#endif
        if (capacity_ > Shelf::most_bytes || shelf.busy.test_and_set(std::memory_order_acquire)) return false;
        int free_place = -1;
        for (int i = 0; i < Shelf::places; ++i)
            if (!shelf.data[i]) free_place = i;
        if (free_place < 0 || shelf.bytes + capacity_ > Shelf::most_bytes) {  // make room: give up the smallest
            for (int i = 0; i < Shelf::places; ++i)
                if (shelf.data[i] &&
                    (free_place < 0 || !shelf.data[free_place] || shelf.capacity[i] < shelf.capacity[free_place]))
                    free_place = i;
            if (shelf.data[free_place]) {
                release(shelf.data[free_place], shelf.capacity[free_place]);
                shelf.data[free_place] = nullptr;
                shelf.bytes -= shelf.capacity[free_place];
            }
        }
        const bool kept = shelf.bytes + capacity_ <= Shelf::most_bytes;
        if (kept) {
            shelf.data[free_place] = data_;
            shelf.capacity[free_place] = capacity_;
            shelf.bytes += capacity_;
        }
        shelf.busy.clear(std::memory_order_release);
        return kept;
    }

    void* data_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace rnnfast
