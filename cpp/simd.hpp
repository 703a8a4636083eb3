// simd.hpp: Vec<T>, one register of numbers, on the compiler's vector types.
//
// Called by matmul.hpp and recurrence.hpp; cells.hpp sees its operators, fma, exp-like functions
// and select by argument-dependent lookup. It must not know of matrices, cells or threads.
// Compiled once per instruction set, each time in a namespace of its own. Contraction is off:
// a multiply and an add are fused where, and only where, fma() is written, so that every
// instantiation rounds alike.
#pragma once

#include <cstdint>

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
    static constexpr int mantissa_bits = 23;
    static constexpr std::uint32_t exponent_bias = 127;
    static constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, held in the low bits
    // 2 ln 2 in two parts; the first is short, so that its product with j is exact
    static constexpr float two_ln2_high = 0x1.62e4p0f, two_ln2_low = 0x1.7f7d1cp-19f;
    static constexpr float tanh_limit = 20.0f, sigmoid_limit = 104.0f;
    // minimax q on |r| <= ln 2 with expm1(r) = r + r² q(r), relative error 1.4e-9
    static constexpr float expm1[] = {0.500000002767f,   0.166666723346f,   0.041666619993f, 0.00833261589584f,
                                      0.00138904542012f, 0.000200980626551f, 2.47809798978e-5f};
};

template <>
struct Native<double> {
    using Bits = std::uint64_t;
    typedef double Float __attribute__((vector_size(register_bytes<double>)));
    typedef double Unaligned __attribute__((vector_size(register_bytes<double>), aligned(8), may_alias));
    typedef std::uint64_t Word __attribute__((vector_size(register_bytes<double>)));
    static constexpr int mantissa_bits = 52;
    static constexpr std::uint64_t exponent_bias = 1023;
    static constexpr double magic = 0x1.8p52;
    static constexpr double two_ln2_high = 0x1.62e42fefa3p0, two_ln2_low = 0x1.3de6af278ece6p-41;
    static constexpr double tanh_limit = 40.0, sigmoid_limit = 746.0;
    // relative error 6.4e-19
    static constexpr double expm1[] = {
        0.499999999999999997522,   0.166666666666666586698,    0.0416666666666668297484,   0.00833333333333656984271,
        0.00138888888888613076033, 0.000198412698369167890013, 2.48015873205665518546e-5,  2.75573219112509700296e-6,
        2.7557313271891179497e-7,  2.50512708977155835516e-8,  2.08775128584472998933e-9, 1.61872344689858603809e-10,
        1.14687267012123947502e-11};
};

template <class T>
struct Vec {
    using Float = typename Native<T>::Float;
    using Word = typename Native<T>::Word;
    using Bits = typename Native<T>::Bits;
    static constexpr int lanes = static_cast<int>(sizeof(Float) / sizeof(T));

    Float v;

    Vec() = default;
    Vec(Float native) : v(native) {}
    Vec(T x) : v(x - Float{}) {}  // x in every lane

    static Vec load(const T* p) {
        return Vec(Float(*reinterpret_cast<const typename Native<T>::Unaligned*>(p)));
    }
    void store(T* p) const { *reinterpret_cast<typename Native<T>::Unaligned*>(p) = v; }

    // The first `count` lanes; the others read as 0 and are not written.
    static Vec load_partial(const T* p, int count) {
        if (count >= lanes) return load(p);
        T lane[lanes] = {};
        for (int i = 0; i < count; ++i) lane[i] = p[i];
        return load(lane);
    }
    void store_partial(T* p, int count) const {
        if (count >= lanes) return store(p);
        T lane[lanes];
        store(lane);
        for (int i = 0; i < count; ++i) p[i] = lane[i];
    }

    Word bits() const { return reinterpret_cast<Word>(v); }
    static Vec from_bits(Word w) { return Vec(reinterpret_cast<Float>(w)); }

    friend Vec operator+(Vec a, Vec b) { return Vec(Float(a.v + b.v)); }
    friend Vec operator-(Vec a, Vec b) { return Vec(Float(a.v - b.v)); }
    friend Vec operator*(Vec a, Vec b) { return Vec(Float(a.v * b.v)); }
    friend Vec operator/(Vec a, Vec b) { return Vec(Float(a.v / b.v)); }
    friend Vec operator-(Vec a) { return Vec(Float(-a.v)); }

    // Masks: all bits of a lane set where the comparison holds; false for NaN.
    friend Word operator<(Vec a, Vec b) { return reinterpret_cast<Word>(a.v < b.v); }
    friend Word operator>(Vec a, Vec b) { return reinterpret_cast<Word>(a.v > b.v); }
    friend Vec select(Word mask, Vec yes, Vec no) { return from_bits((mask & yes.bits()) | (~mask & no.bits())); }
};

// a b + c, rounded once where the processor can.
template <class T>
inline Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__FMA__)
    if constexpr (sizeof(a.v) == 4)
        return Vec<T>(typename Vec<T>::Float{__builtin_fmaf(a.v[0], b.v[0], c.v[0])});
    else if constexpr (sizeof(a.v) == 8)
        return Vec<T>(typename Vec<T>::Float{__builtin_fma(a.v[0], b.v[0], c.v[0])});
#if defined(__AVX512F__)
    else if constexpr (sizeof(a.v) == 64 && sizeof(T) == 4)
        return Vec<T>(typename Vec<T>::Float(_mm512_fmadd_ps(__m512(a.v), __m512(b.v), __m512(c.v))));
    else if constexpr (sizeof(a.v) == 64)
        return Vec<T>(typename Vec<T>::Float(_mm512_fmadd_pd(__m512d(a.v), __m512d(b.v), __m512d(c.v))));
#endif
    else if constexpr (sizeof(T) == 4)
        return Vec<T>(typename Vec<T>::Float(_mm256_fmadd_ps(__m256(a.v), __m256(b.v), __m256(c.v))));
    else
        return Vec<T>(typename Vec<T>::Float(_mm256_fmadd_pd(__m256d(a.v), __m256d(b.v), __m256d(c.v))));
#else
    return a * b + c;  // contracted where the build allows it: CMakeLists.txt does so off x86-64
#endif
}

template <class T>
inline Vec<T> abs(Vec<T> x) {
    return Vec<T>::from_bits((x.bits() << 1) >> 1);
}

// |magnitude| with the sign of `sign`
template <class T>
inline Vec<T> copysign(Vec<T> magnitude, Vec<T> sign) {
    constexpr auto sign_bit = typename Vec<T>::Bits(1) << (8 * sizeof(T) - 1);
    return Vec<T>::from_bits((magnitude.bits() & ~sign_bit) | (sign.bits() & sign_bit));
}

// exp(x) = scale² (1 + p) for -sigmoid_limit <= x <= 0; two scales, because scale² may be denormal.
template <class T>
struct ExpParts {
    Vec<T> p, scale;
};

template <class T>
inline ExpParts<T> exp_parts(Vec<T> x) {
    using N = Native<T>;
    constexpr int terms = sizeof(N::expm1) / sizeof(T);
    constexpr T half_log2e = T(0.72134752044448170367996234050095);
    const Vec<T> shifted = fma(x, Vec<T>(half_log2e), Vec<T>(N::magic));
    const Vec<T> j = shifted - Vec<T>(N::magic);  // x = 2 j ln 2 + r with |r| <= ln 2
    const Vec<T> r = fma(j, Vec<T>(-N::two_ln2_low), fma(j, Vec<T>(-N::two_ln2_high), x));
    Vec<T> q(N::expm1[terms - 1]);
    for (int i = terms - 2; i >= 0; --i) q = fma(q, r, Vec<T>(N::expm1[i]));
    const Vec<T> p = fma(r * r, q, r);
    return {p, Vec<T>::from_bits((shifted.bits() + N::exponent_bias) << N::mantissa_bits)};
}

template <class T>
inline Vec<T> max_keeping_nan(Vec<T> x, Vec<T> limit) {
    return select(x < limit, limit, x);
}

// 1 / (1 + e) for x >= 0 and e / (1 + e) for x < 0, with e = exp(-|x|)
template <class T>
inline Vec<T> sigmoid(Vec<T> x) {
    const auto [p, scale] = exp_parts(max_keeping_nan(-abs(x), Vec<T>(-Native<T>::sigmoid_limit)));
    const Vec<T> e = fma(scale, p, scale) * scale;
    return select(x < Vec<T>(T(0)), e, Vec<T>(T(1))) / (Vec<T>(T(1)) + e);
}

// sign(x) (-y) / (2 + y) with y = expm1(-2 |x|)
template <class T>
inline Vec<T> tanh(Vec<T> x) {
    const Vec<T> a = abs(x);
    const auto [p, scale] = exp_parts(max_keeping_nan(-(a + a), Vec<T>(-Native<T>::tanh_limit)));
    const Vec<T> scale2 = scale * scale;
    const Vec<T> y = fma(p, scale2, scale2 - Vec<T>(T(1)));
    return copysign(y / (Vec<T>(T(2)) + y), x);
}

template <class T>
inline Vec<T> relu(Vec<T> x) {
    return select(x < Vec<T>(T(0)), Vec<T>(T(0)), x);
}

// Denormals are flushed to zero while one of these lives (they cost up to 20 times more), in this thread alone.
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
#endif
  public:
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;
};

}  // namespace rnnfast::RNNFAST_ISA
