pub const X: &str = "sh chore";
