//! The random numbers of Python's `random.Random(seed)`, so that a seeded detector draws what
//! river draws.
//!
//! The Mersenne Twister of Matsumoto and Nishimura (ACM TOMACS 8(1), 1998) with their
//! `init_by_array`; integers below n by rejection of `n.bit_length()` bits, samples as
//! CPython's `random.sample` documents in its source: from a shrinking pool, or by redrawing
//! what was drawn where the population is large against the sample.

const N: usize = 624;
const M: usize = 397;

/// A generator.
#[derive(Clone)]
pub struct PythonRandom {
    state: Box<[u32; N]>,
    index: usize,
}

impl std::fmt::Debug for PythonRandom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PythonRandom").field("index", &self.index).finish_non_exhaustive()
    }
}

impl PythonRandom {
    /// `random.Random(seed)` for an integer seed.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key: &[u32] = if high == 0 { &[low] } else { &[low, high] };
        let mut state = Box::new([0u32; N]);
        state[0] = 19_650_218;
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let mixed = state[i] ^ (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525);
            state[i] = mixed.wrapping_add(key[j]).wrapping_add(j as u32);
            (i, j) = (next_index(&mut state, i), (j + 1) % key.len());
        }
        for _ in 0..N - 1 {
            let mixed = state[i] ^ (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941);
            state[i] = mixed.wrapping_sub(i as u32);
            i = next_index(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Self { state, index: N }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.index == N {
            self.refill();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for k in 0..N {
            let y = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7FFF_FFFF);
            let twist = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (y >> 1) ^ twist;
        }
        self.index = 0;
    }

    /// An integer below `n`, for n from 1 to 2³² − 1.
    pub fn below(&mut self, n: u32) -> u32 {
        let bits = u32::BITS - n.leading_zeros();
        loop {
            let r = self.bits() >> (u32::BITS - bits.max(1));
            if r < n.max(1) {
                return r;
            }
        }
    }

    /// `sample(range(population), k)` into `drawn`; k is brought down to the population.
    pub fn sample(&mut self, population: u32, k: u32, drawn: &mut Vec<u32>) {
        drawn.clear();
        let k = k.min(population);
        if u64::from(population) <= pool_limit(k) {
            let mut pool: Vec<u32> = (0..population).collect();
            for i in 0..k {
                let j = self.below(population - i) as usize;
                drawn.push(pool[j]);
                pool[j] = pool[(population - i - 1) as usize];
            }
        } else {
            for _ in 0..k {
                let mut j = self.below(population);
                while drawn.contains(&j) {
                    j = self.below(population);
                }
                drawn.push(j);
            }
        }
    }
}

fn next_index(state: &mut [u32; N], i: usize) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

/// Above this population CPython redraws: 21, and for k above 5 also 4^⌈log₄ 3k⌉.
fn pool_limit(k: u32) -> u64 {
    let mut power = 1u64;
    while power < 3 * u64::from(k) {
        power *= 4;
    }
    if k > 5 { 21 + power } else { 21 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_draws_what_python_draws() {
        // From CPython 3.11: random.Random(42).getrandbits(32), random.Random(42).sample(range(70), 30), ….
        let mut r = PythonRandom::new(42);
        assert_eq!([r.bits(), r.bits(), r.bits(), r.bits()], [2_746_317_213, 478_163_327, 107_420_369, 3_184_935_163]);
        let mut drawn = Vec::new();
        PythonRandom::new(42).sample(70, 30, &mut drawn);
        assert_eq!(
            drawn,
            [
                14, 3, 35, 31, 28, 17, 13, 43, 47, 57, 34, 5, 37, 27, 2, 1, 58, 63, 69, 32, 38, 54, 67, 12, 45, 41, 59,
                26, 51, 65
            ]
        );
        PythonRandom::new(7).sample(1_000, 6, &mut drawn);
        assert_eq!(drawn, [331, 970, 154, 404, 666, 49]);
        assert_eq!(PythonRandom::new(1 << 40).bits(), 445_128_065);
    }
}
