//! The secret that both sides agree on: Diffie-Hellman over 768 bits.

use core::fmt;

use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U768, const_monty_params};

use super::Error;
use crate::rng::Rng;

/// Bytes of a public key, and of a secret.
pub const PUBLIC_KEY_LEN: usize = 96;

/// Bits of a private key: what the specification recommends. More would hide nothing better, and
/// cost in proportion.
const PRIVATE_KEY_BITS: u32 = 160;

const_monty_params!(
    Prime,
    U768,
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd\
     ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563"
);

type Residue = ConstMontyForm<Prime, { U768::LIMBS }>;

const GENERATOR: Residue = Residue::new(&U768::from_u8(2));

/// The number that one side keeps to itself.
#[derive(Clone)]
pub struct PrivateKey(U768);

impl PrivateKey {
    /// A new one.
    pub fn random(rng: &mut Rng) -> Self {
        let mut bytes = [0; PUBLIC_KEY_LEN];
        rng.fill(&mut bytes[PUBLIC_KEY_LEN - PRIVATE_KEY_BITS as usize / 8..]);
        Self(U768::from_be_slice(&bytes))
    }

    /// What the other side gets: a number of 768 bits, the highest byte first.
    pub fn public(&self) -> [u8; PUBLIC_KEY_LEN] {
        to_bytes(&GENERATOR.pow_bounded_exp(&self.0, PRIVATE_KEY_BITS))
    }

    /// The secret, padded to its full length, from what the other side sent.
    pub fn agree(&self, public: &[u8; PUBLIC_KEY_LEN]) -> Result<[u8; PUBLIC_KEY_LEN], Error> {
        let public = U768::from_be_slice(public);
        // 0, 1 and p - 1 have no powers but themselves and 1; p and more are not of the group.
        let highest = Prime::modulus().wrapping_sub(&U768::from_u8(2));
        if public < U768::from_u8(2) || public > highest {
            return Err(Error::PublicKey);
        }
        Ok(to_bytes(&Residue::new(&public).pow_bounded_exp(&self.0, PRIVATE_KEY_BITS)))
    }
}

impl fmt::Debug for PrivateKey {
    /// Says nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl Prime {
    const fn modulus() -> U768 {
        *<Self as crypto_bigint::modular::ConstMontyParams<{ U768::LIMBS }>>::PARAMS
            .modulus()
            .as_ref()
    }
}

fn to_bytes(residue: &Residue) -> [u8; PUBLIC_KEY_LEN] {
    let mut bytes = [0; PUBLIC_KEY_LEN];
    bytes.copy_from_slice(residue.retrieve().to_be_bytes().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;
    use std::format;

    fn prime() -> [u8; PUBLIC_KEY_LEN] {
        let mut bytes = [0; PUBLIC_KEY_LEN];
        bytes.copy_from_slice(Prime::modulus().to_be_bytes().as_ref());
        bytes
    }

    fn number(low: u8) -> [u8; PUBLIC_KEY_LEN] {
        let mut bytes = [0; PUBLIC_KEY_LEN];
        bytes[PUBLIC_KEY_LEN - 1] = low;
        bytes
    }

    /// The prime with another last byte, which is 0x63.
    fn near_prime(last: u8) -> [u8; PUBLIC_KEY_LEN] {
        let mut bytes = prime();
        bytes[PUBLIC_KEY_LEN - 1] = last;
        bytes
    }

    #[test]
    fn both_sides_get_the_same_secret() {
        let mut rng = Seed::from_number(1).stream("test", 0);
        for _ in 0..50 {
            let [a, b] = [(); 2].map(|()| PrivateKey::random(&mut rng));
            assert_ne!(a.public(), b.public());
            let secret = a.agree(&b.public()).expect("a good key");
            assert_eq!(b.agree(&a.public()), Ok(secret));
        }
    }

    #[test]
    fn a_public_key_that_fixes_the_secret_is_refused() {
        let key = PrivateKey::random(&mut Seed::from_number(1).stream("test", 0));
        let above = [0xff; PUBLIC_KEY_LEN];
        for bad in
            [number(0), number(1), near_prime(0x62), near_prime(0x63), near_prime(0x64), above]
        {
            assert_eq!(key.agree(&bad), Err(Error::PublicKey));
        }
        assert!(key.agree(&number(2)).is_ok() && key.agree(&near_prime(0x61)).is_ok());
    }

    #[test]
    fn powers_are_those_of_school_arithmetic() {
        // 2^3 = 8 and 3^3 = 27, at their full length.
        let key = PrivateKey(U768::from_u8(3));
        assert_eq!(key.public(), number(8));
        assert_eq!(key.agree(&number(3)), Ok(number(27)));
        // 2^768 = 2^768 - p, which has a zero where p has ones at the top.
        let (head, tail) = (U768::MAX.wrapping_sub(&Prime::modulus()), U768::from_u8(1));
        let wanted = head.wrapping_add(&tail);
        let squared = (0..768).fold(Residue::ONE, |power, _| power.add(&power));
        assert_eq!(squared.retrieve(), wanted);
    }

    #[test]
    fn a_key_says_nothing_of_itself() {
        assert_eq!(format!("{:?}", PrivateKey(U768::from_u8(3))), "PrivateKey(..)");
    }
}
