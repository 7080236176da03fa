/** The picker's texts in the language of the page around it. */

import en from "./en.js";
import ja from "./ja.js";
import ko from "./ko.js";
import zh from "./zh.js";
import zhTW from "./zh-TW.js";

export const LANGUAGES = { en, zh, "zh-TW": zhTW, ja, ko };

/** The texts for a language tag, such as "zh-TW" or "ja-JP"; English for a language that there is none of. */
export function textsFor(tag = "en") {
  const { language, script, region } = new Intl.Locale(tag).maximize();
  if (language === "zh") return script === "Hant" ? zhTW : zh;
  return LANGUAGES[language] ?? en;
}
