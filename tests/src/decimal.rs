//! Numbers with decimals, without floats.

/// A thousandth of `number` with so many decimals, 0 to 3: 3456 gives 3.4 for one.
pub fn thousandth(number: u64, decimals: usize) -> String {
    let text = format!("{}.{:03}", number / 1000, number % 1000);
    let cut = text.len() + decimals - if decimals == 0 { 4 } else { 3 };
    text.get(..cut).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::thousandth;

    #[test]
    fn a_thousandth_is_cut_to_its_decimals() {
        assert_eq!(thousandth(3456, 0), "3");
        assert_eq!(thousandth(3456, 1), "3.4");
        assert_eq!(thousandth(56, 3), "0.056");
    }
}
