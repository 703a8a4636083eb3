// simd.hpp: Vec<T>, one register of numbers, on the compiler's vector types.
//
// Called by matmul.hpp and the drivers; cells.hpp sees its operators, fma, activations and
// where_less by argument-dependent lookup. It must not know of matrices, cells or threads.
// Compiled once per instruction set, each time in a namespace of its own. On x86-64
// contraction is off: a multiply and an add are fused where, and only where, fma() is written, so
// that every instantiation rounds alike.
#pragma once

#include <cstdint>
#include <utility>

#include "problem.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rnnfast::RNNFAST_ISA {

// RNNFAST_VECTOR_BYTES is the register width; 0 means one lane (the scalar level).
template <class T>
constexpr int register_bytes = RNNFAST_VECTOR_BYTES ? RNNFAST_VECTOR_BYTES : static_cast<int>(sizeof(T));

template <class T>
struct Native;

template <>
struct Native<float> {
    using Bits = std::uint32_t;
    typedef float Float __attribute__((vector_size(register_bytes<float>)));
    typedef float Unaligned __attribute__((vector_size(register_bytes<float>), aligned(4), may_alias));
    typedef std::uint32_t Word __attribute__((vector_size(register_bytes<float>)));
    typedef double Doubles __attribute__((vector_size(2 * register_bytes<float>)));  // as many lanes
    static constexpr int mantissa_bits = 23;
    static constexpr std::uint32_t exponent_bias = 127;
    static constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, held in the low bits
    // ln 2 in two parts; the first is short, so that its product with k is exact
    static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
    static constexpr float exp_limit = 88.0f;  // within it 2^k is a number, or 0
    static constexpr float tanh_limit = 10.0f;
    // minimax q on |r| <= ln 2 / 2 with expm1(r) = r + r² q(r), relative error 3.1e-9
    static constexpr float expm1[] = {0.499999934321f, 0.166665203991f, 0.0416683907837f, 0.00836874510506f,
                                      0.00138145401875f};
};

template <>
struct Native<double> {
    using Bits = std::uint64_t;
    typedef double Float __attribute__((vector_size(register_bytes<double>)));
    typedef double Unaligned __attribute__((vector_size(register_bytes<double>), aligned(8), may_alias));
    typedef std::uint64_t Word __attribute__((vector_size(register_bytes<double>)));
    typedef Float Doubles;
    static constexpr int mantissa_bits = 52;
    static constexpr std::uint64_t exponent_bias = 1023;
    static constexpr double magic = 0x1.8p52;
    static constexpr double ln2_high = 0x1.62e42fefa3p-1, ln2_low = 0x1.3de6af278ece6p-42;
    static constexpr double exp_limit = 709.0, tanh_limit = 20.0;
    // relative error 5.4e-20
    static constexpr double expm1[] = {0.50000000000000000441,     0.16666666666666683487,   0.041666666666666091989,
                                       0.0083333333333169822763,   0.001388888888911635335,  0.00019841269896515673849,
                                       0.000024801586925733988989, 2.7557234727327575913e-6, 2.7557582267985272212e-7,
                                       2.5112084662546570304e-8,   2.0826587037086822196e-9};
};

template <class T>
inline typename Native<T>::Float fma_native(typename Native<T>::Float a, typename Native<T>::Float b,
                                            typename Native<T>::Float c) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_fmadd_ps(__m512(a), __m512(b), __m512(c));
    else
        return _mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c));
#elif defined(__FMA__)
    if constexpr (sizeof(T) == 4)
        return _mm256_fmadd_ps(__m256(a), __m256(b), __m256(c));
    else
        return _mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c));
#else
    return a * b + c;  // contracted where the build allows it: CMakeLists.txt does so off x86-64
#endif
}

// The larger and the smaller of two numbers; the second where one is NaN.
template <class T>
inline typename Native<T>::Float max_native(typename Native<T>::Float a, typename Native<T>::Float b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_maskz_max_ps(-1, __m512(a), __m512(b));  // the plain form warns
    else
        return _mm512_maskz_max_pd(-1, __m512d(a), __m512d(b));
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 4)
        return _mm256_max_ps(__m256(a), __m256(b));
    else
        return _mm256_max_pd(__m256d(a), __m256d(b));
#else
    return b < a ? a : b;
#endif
}
template <class T>
inline typename Native<T>::Float min_native(typename Native<T>::Float a, typename Native<T>::Float b) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_maskz_min_ps(-1, __m512(a), __m512(b));  // the plain form warns
    else
        return _mm512_maskz_min_pd(-1, __m512d(a), __m512d(b));
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 4)
        return _mm256_min_ps(__m256(a), __m256(b));
    else
        return _mm256_min_pd(__m256d(a), __m256d(b));
#else
    return a < b ? a : b;
#endif
}
template <class T>
inline typename Native<T>::Float sqrt_native(typename Native<T>::Float a) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return _mm512_maskz_sqrt_ps(-1, __m512(a));  // the plain form warns
    else
        return _mm512_maskz_sqrt_pd(-1, __m512d(a));
#elif defined(__AVX__)
    if constexpr (sizeof(T) == 4)
        return _mm256_sqrt_ps(__m256(a));
    else
        return _mm256_sqrt_pd(__m256d(a));
#else
    for (unsigned i = 0; i < sizeof(a) / sizeof(T); ++i)
        a[i] = sizeof(T) == 4 ? __builtin_sqrtf(a[i]) : __builtin_sqrt(a[i]);
    return a;
#endif
}

// R registers side by side. The tiles of matmul.hpp hold single ones; cells work on two at a time, which gives the
// processor two independent chains to interleave.
template <class T, int R = 1>
struct Vec {
    using Float = typename Native<T>::Float;
    using Word = typename Native<T>::Word;
    using Bits = typename Native<T>::Bits;
    static constexpr int register_lanes = static_cast<int>(sizeof(Float) / sizeof(T));
    static constexpr int lanes = R * register_lanes;

    Float v[R];

    Vec() = default;
    Vec(T x) {  // x in every lane
        for (int r = 0; r < R; ++r) v[r] = x - Float{};
    }

    static Vec load(const T* p) {
        Vec x;
        for (int r = 0; r < R; ++r)
            x.v[r] = *reinterpret_cast<const typename Native<T>::Unaligned*>(p + r * register_lanes);
        return x;
    }
    void store(T* p) const {
        for (int r = 0; r < R; ++r) *reinterpret_cast<typename Native<T>::Unaligned*>(p + r * register_lanes) = v[r];
    }

    // The first `count` lanes; the others read as 0 and are not written.
    static Vec load_partial(const T* p, Index count) {
        if (count >= lanes) return load(p);
        Vec x;
        for (int r = 0; r < R; ++r) {
            const Index left = count - r * register_lanes;
            x.v[r] = left >= register_lanes ? Vec<T>::load(p + r * register_lanes).v[0] : Float{};
            for (Index i = 0; i < left && left < register_lanes; ++i) x.v[r][i] = p[r * register_lanes + i];
        }
        return x;
    }
    void store_partial(T* p, Index count) const {
        if (count >= lanes) return store(p);
        for (int r = 0; r < R; ++r) {
            const Index left = count - r * register_lanes;
            if (left >= register_lanes)
                *reinterpret_cast<typename Native<T>::Unaligned*>(p + r * register_lanes) = v[r];
            else
                for (Index i = 0; i < left; ++i) p[r * register_lanes + i] = v[r][i];
        }
    }

    // op on each register
    template <class Op>
    static Vec map(Op op) {
        Vec x;
        for (int r = 0; r < R; ++r) x.v[r] = op(r);
        return x;
    }

    friend Vec operator+(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] + b.v[r]; });
    }
    friend Vec operator-(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] - b.v[r]; });
    }
    friend Vec operator*(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] * b.v[r]; });
    }
    friend Vec operator/(Vec a, Vec b) {
        return map([&](int r) { return a.v[r] / b.v[r]; });
    }
    friend Vec operator-(Vec a) {
        return map([&](int r) { return -a.v[r]; });
    }

    // a b + c, rounded once where the processor can.
    friend Vec fma(Vec a, Vec b, Vec c) {
        return map([&](int r) { return fma_native<T>(a.v[r], b.v[r], c.v[r]); });
    }

    friend Vec max(Vec a, Vec b) {
        return map([&](int r) { return max_native<T>(a.v[r], b.v[r]); });
    }
    friend Vec min(Vec a, Vec b) {
        return map([&](int r) { return min_native<T>(a.v[r], b.v[r]); });
    }
    friend Vec sqrt(Vec a) {
        return map([&](int r) { return sqrt_native<T>(a.v[r]); });
    }

    // a < b ? yes : no, lane by lane; NaN is not less.
    friend Vec where_less(Vec a, Vec b, Vec yes, Vec no) {
        return map([&](int r) { return a.v[r] < b.v[r] ? yes.v[r] : no.v[r]; });
    }

    // op on the bits of each register
    template <class Op>
    static Vec map_bits(Op op) {
        return map([&](int r) { return reinterpret_cast<Float>(op(r)); });
    }
    Word bits(int r) const { return reinterpret_cast<Word>(v[r]); }
};

// a0 b0 a1 b1 ... of the halves of two registers that begin at number `from`
template <class T, int from, int... lane>
inline typename Native<T>::Float interleave(typename Native<T>::Float a, typename Native<T>::Float b,
                                            std::integer_sequence<int, lane...>) {
    constexpr int lanes = sizeof...(lane);
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (from + lane / 2 + lane % 2 * lanes)...);
#else  // GCC knows that one since version 12 only
    return __builtin_shuffle(a, b, typename Native<T>::Word{(from + lane / 2 + lane % 2 * lanes)...});
#endif
}

// The transpose of a square of one register for each row, in place.
template <class T>
inline void transpose(Vec<T>* row) {
    constexpr int lanes = Vec<T>::lanes;
    constexpr std::make_integer_sequence<int, lanes> all{};
    Vec<T> next[lanes];
    for (int round = 1; round < lanes; round *= 2) {
        for (int i = 0; i < lanes / 2; ++i) {
            next[2 * i].v[0] = interleave<T, 0>(row[i].v[0], row[i + lanes / 2].v[0], all);
            next[2 * i + 1].v[0] = interleave<T, lanes / 2>(row[i].v[0], row[i + lanes / 2].v[0], all);
        }
        for (int i = 0; i < lanes; ++i) row[i] = next[i];
    }
}

template <class T, int R>
inline Vec<T, R> abs(Vec<T, R> x) {
    return x.map_bits([&](int r) { return (x.bits(r) << 1) >> 1; });
}

// |magnitude| with the sign of `sign`
template <class T, int R>
inline Vec<T, R> copysign(Vec<T, R> magnitude, Vec<T, R> sign) {
    constexpr auto sign_bit = typename Vec<T>::Bits(1) << (8 * sizeof(T) - 1);
    return sign.map_bits([&](int r) { return (magnitude.bits(r) & ~sign_bit) | (sign.bits(r) & sign_bit); });
}

// coefficient[first] + coefficient[first + 1] r + ... of `count` terms by Estrin's scheme, whose chains are short.
// power: r, r², r⁴, r⁸
template <int first, int count, class T, int R>
inline Vec<T, R> polynomial(const T* coefficient, const Vec<T, R>* power) {
    if constexpr (count == 1) {
        return Vec<T, R>(coefficient[first]);
    } else {
        constexpr int level = count > 8 ? 3 : count > 6 ? 2 : count > 2 ? 1 : 0, half = 1 << level;
        return fma(polynomial<first + half, count - half>(coefficient, power), power[level],
                   polynomial<first, half>(coefficient, power));
    }
}

// exp(x) = 2^k (1 + expm1(r)), k being what rounding x / ln 2 to an integer left in the low bits of `shifted`
template <class V>
struct ExpParts {
    V expm1, power;  // power = 2^k
};

// |x| <= exp_limit
template <class T, int R>
inline ExpParts<Vec<T, R>> exp_parts(Vec<T, R> x) {
    using N = Native<T>;
    using V = Vec<T, R>;
    constexpr int terms = sizeof(N::expm1) / sizeof(T);
    constexpr T log2e = T(1.4426950408889634073599246810019);
    const V shifted = fma(x, V(log2e), V(N::magic));
    const V k = shifted - V(N::magic);  // x = k ln 2 + r with |r| <= ln 2 / 2
    const V r = fma(k, V(-N::ln2_low), fma(k, V(-N::ln2_high), x));
    const V r2 = r * r, r4 = r2 * r2, power[] = {r, r2, r4, r4 * r4};
    return {fma(r2, polynomial<0, terms>(N::expm1, power), r),
            shifted.map_bits([&](int i) { return (shifted.bits(i) + N::exponent_bias) << N::mantissa_bits; })};
}

// For x <= 0. A denormal result is 0 where those are flushed, and below 0.7 of the smallest normal number anyway.
template <class T, int R>
inline Vec<T, R> exp(Vec<T, R> x) {
    using V = Vec<T, R>;
    const auto e = exp_parts(max(V(-Native<T>::exp_limit), x));
    return (V(T(1)) + e.expm1) * e.power;
}

// 1 / (1 + exp(-x)) = 1 / ((1 + 2^k expm1(r)) + 2^k): in this order the sums lose least.
// At the limits of x the result is 1, or denormal, which is flushed to 0.
template <class T, int R>
inline Vec<T, R> sigmoid(Vec<T, R> x) {
    using V = Vec<T, R>;
    const V one(T(1));
    const auto e = exp_parts(-max(V(-Native<T>::exp_limit), min(V(Native<T>::exp_limit), x)));
    return one / (fma(e.expm1, e.power, one) + e.power);
}

// sign(x) (-y) / (2 + y) with y = expm1(-2 |x|)
template <class T, int R>
inline Vec<T, R> tanh(Vec<T, R> x) {
    using V = Vec<T, R>;
    const V one(T(1)), a = min(V(Native<T>::tanh_limit), abs(x));
    const auto e = exp_parts(-(a + a));
    return copysign(fma(e.expm1, e.power, e.power - one) / fma(e.expm1, e.power, one + e.power), x);
}

template <class T, int R>
inline Vec<T, R> relu(Vec<T, R> x) {
    return max(Vec<T, R>(T(0)), x);
}

// A sum in double, lane by lane and then over the lanes in ascending order.
template <class T, int R = 1>
struct DoubleSum {
    using Doubles = typename Native<T>::Doubles;
    Doubles sum[R] = {};

    void add(const Vec<T, R>& x) {
        for (int r = 0; r < R; ++r) sum[r] += __builtin_convertvector(x.v[r], Doubles);
    }
    void add_square(const Vec<T, R>& x) {
        for (int r = 0; r < R; ++r) {
            const Doubles y = __builtin_convertvector(x.v[r], Doubles);
            sum[r] += y * y;
        }
    }
    double total() const {
        double result = 0;
        for (int r = 0; r < R; ++r)
            for (int i = 0; i < Vec<T>::lanes; ++i) result += sum[r][i];
        return result;
    }
};

// Denormals are flushed to zero while one of these lives (long sequences reach them, and they are slow), in this thread
// alone.
class FlushDenormals {
  public:
#if defined(__x86_64__)
    FlushDenormals() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(saved_); }

  private:
    unsigned saved_;
#elif defined(__aarch64__)
    FlushDenormals() {
        std::uint64_t flushing;
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        flushing = saved_ | (std::uint64_t(1) << 24);
        asm volatile("msr fpcr, %0" : : "r"(flushing));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

  private:
    std::uint64_t saved_;
#else
    FlushDenormals() {}
#endif
  public:
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace rnnfast::RNNFAST_ISA
